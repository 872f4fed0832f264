"""Sample texts: what ranges are calibrated on, and what the demonstration embeds. All written for this purpose."""

from __future__ import annotations

__all__ = ["CALIBRATION_TEXTS", "DEMO_TEXTS"]

DEMO_TEXTS = (
    "The cat sleeps on the warm windowsill.",
    "A kitten is dozing by the sunny window this afternoon.",
    "Interest rates rose again this quarter, and borrowers feel it in every monthly payment.",
    "Two hospitals compared their patients' records without either of them seeing a single page of the other's files.",
    "Stir the lentils, garlic and cumin for ten minutes, then add a cup of stock and let everything simmer slowly.",
)

_SHORT = (
    "",
    "Yes.",
    "Why?",
    "hello hello hello hello",
    "The train to the coast leaves at seven.",
    "I never said she took the money!",
    "Her grandmother's violin survived two wars and a flood.",
)

_SYMBOLS = (
    "3.14159 2.71828 1.41421 0.57721 6.02214e23 1.60218e-19",
    "Invoice 2023-0417: 12 x 49.90 EUR = 598.80 EUR, VAT 19 % = 113.77 EUR, due 2023-05-31, IBAN DE00 1234 5678.",
    "!!! ??? ... --- *** ((( ))) [[[ ]]] {{{ }}} <<< >>> @@@ ### $$$ %%% ^^^ &&& ~~~ ``` ;;; ::: ,,, '''",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; if (sum > limit) return -1; } // overflow",
    "def median(xs):\n    ys = sorted(xs)\n    mid = len(ys) // 2\n"
    "    return ys[mid] if len(ys) % 2 else (ys[mid - 1] + ys[mid]) / 2\n",
    "SELECT city, COUNT(*) AS visits FROM trips WHERE year >= 2019 GROUP BY city HAVING COUNT(*) > 10 ORDER BY 2 DESC;",
    "https://example.org/a/b?c=1&d=two#part  user@example.org  C:\\temp\\notes.txt  192.0.2.17:8080",
)

_LANGUAGES = (
    "Der Zug hatte Verspätung, deshalb haben wir am Bahnhof noch einen Kaffee getrunken und Karten gespielt.",
    "La biblioteca cierra los lunes, pero el jardín queda abierto hasta que se pone el sol.",
    "Le boulanger du village prépare ses pains avant l'aube, même quand il neige.",
    "Мы долго ждали автобуса под дождём и говорили о книгах.",
    "今日は天気がいいので、川のそばを散歩しました。",
    "القطار السريع يصل إلى المدينة قبل الغروب.",
    "한국의 가을 하늘은 높고 푸르다 🍁🍂 🙂",
)

_PARAGRAPHS = (
    "When the reservoir was drained for repairs, people from the valley walked down to see what the water had kept. "
    "The church had lost its roof, and the mill its wheel, yet the bridge stood as if somebody had swept it that "
    "morning. Children ran across it, shouting each other's names, while the older visitors stayed on the bank, "
    "pointing at places that only they could recognise. By spring the valves were closed again, and the lake rose "
    "over the road, the gardens and the last of the chimneys.",
    "Patients who received the lower dose reported fewer side effects, although the difference did not reach "
    "statistical significance (p = 0.08). Blood pressure fell by 7.4 mmHg on average in the treated group and by 2.1 "
    "mmHg with placebo. Two participants withdrew because of dizziness; no serious adverse events were attributed to "
    "the drug. A longer trial, with at least 600 participants and a follow-up of three years, would be needed to "
    "decide whether the benefit outweighs the cost for people older than seventy.",
    "The landlord shall return the deposit within thirty days after the tenant has handed over the keys, less any sum"
    " that is due for damage beyond ordinary wear. If the landlord keeps any part of it, an itemised statement with "
    "copies of the receipts has to be enclosed. Failing that, the tenant may claim twice the amount withheld. Nothing"
    " in this clause limits the right of either party to go to court, nor does it apply to a room in a house in which"
    " the landlord lives.",
)

_LONG = (
    "Bread is older than writing, and for most of its history nobody knew why it rose. A baker kept back a piece of "
    "dough from one day and kneaded it into the next, and what lived in that piece did the rest. Wild yeasts feed on "
    "the sugars that enzymes free from the starch of the flour, and give off the gas that fills the loaf; bacteria "
    "that live beside them make the acids that give it flavour and keep moulds away. Gluten, the elastic net that "
    "forms when the proteins of wheat meet water, holds the bubbles in. Heat sets the net, drives off the alcohol and"
    " browns the crust. Each of these steps has its own pace, so a baker is really someone who manages time: a cool "
    "cellar for a slow dough, a warm corner for an impatient one. Modern factories shorten everything with faster "
    "yeast, harder mixing and a handful of additives, and get a loaf in under two hours. Whether it tastes of "
    "anything is another matter. Many people who thought that they could not digest bread find that they can, once it"
    " has been given a night to ferment. The oldest method turns out to be a kind of patience which no machine has "
    "replaced, and the smell of it still stops people in the street on their way to work.",
    "2021-03-04 07:12:09 INFO gateway started, 4 workers, queue 1024; 2021-03-04 07:12:11 WARN certificate of node-17"
    " expires in 6 days; 2021-03-04 07:15:40 ERROR timeout after 30.0 s while reading /var/data/batch_0042.csv "
    "(attempt 3 of 3); 2021-03-04 07:15:41 INFO batch 42 moved to quarantine, 18,204 rows kept, 311 dropped; "
    "2021-03-04 07:20:00 INFO checkpoint 7f3a9c written in 812 ms; 2021-03-04 07:31:27 WARN memory at 91.5 %, "
    "collecting; 2021-03-04 07:31:28 INFO memory at 47.2 %; 2021-03-04 08:00:00 INFO hourly report: requests 120,554,"
    " failures 73 (0.06 %), p50 11 ms, p95 48 ms, p99 203 ms; 2021-03-04 08:04:55 DEBUG cache miss for key "
    "user:99120:profile; 2021-03-04 08:05:02 INFO shutting down; bye.",
    "She had practised what to say on the ferry, in the taxi and on the stairs, and forgot all of it when the door "
    "opened. The man who stood there had her father's ears. For a while neither of them spoke; somewhere behind him a"
    " kettle began to sing, and he said, in an accent she had not expected, that she had better come in before the "
    "dog got out. There was no dog that she could see. The hall smelled of paint and oranges. On the wall hung "
    "photographs of people on skis, people at weddings, people squinting at the sea, and in one of them, quite small,"
    " at the edge of a picnic, a girl with a bandaged knee who was beyond any doubt herself. 'You kept it,' she said."
    " 'It was the only one he left,' said the man. He poured the tea without asking how she took it, and got it "
    "right. Outside it had started to rain, softly at first, then as if somebody had tipped a bucket over the whole "
    "street, and under the table something large and warm sighed, turned around twice and lay down on her feet. So "
    "there was a dog after all. 'Well,' said her brother, 'where would you like me to begin?' She thought about it. "
    "'With the picnic,' she said.",
)

CALIBRATION_TEXTS = _SHORT + _SYMBOLS + _LANGUAGES + _PARAGRAPHS + _LONG
