"""Made-up patient records for the tutorial on private training: `python examples/patients.py patients.csv`.

400 notes of 150 patients who never lived: complaint, finding, record number, and the department that a note goes to.
The same file every time.
"""

import csv
import random
import sys

DEPARTMENTS = {
    "cardiology": (
        ["pressure in the chest", "a racing heart", "swollen ankles"],
        ["ST changes", "a raised troponin", "an irregular pulse"],
    ),
    "neurology": (
        ["a sudden headache", "numbness in one arm", "double vision"],
        ["a weak reflex", "a slow pupil", "a drifting arm"],
    ),
    "pneumology": (
        ["a cough for weeks", "short breath at night", "wheezing"],
        ["crackles on the left", "a saturation of 91", "a long expiration"],
    ),
    "orthopaedics": (
        ["pain in the knee", "a twisted ankle", "a stiff shoulder"],
        ["swelling of the joint", "a positive drawer sign", "a limited rotation"],
    ),
    "gastroenterology": (
        ["burning after meals", "pain below the ribs", "nausea since Monday"],
        ["a tender abdomen", "raised lipase", "dark stools"],
    ),
}
NAMES = (
    "Adams",
    "Brandt",
    "Castro",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Greco",
    "Haddad",
    "Ito",
    "Jansen",
    "Kaya",
    "Lopez",
)


def main(path: str) -> None:
    """Writes the rows."""
    draw = random.Random(11)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "text", "label"])
        for number in range(400):
            patient = number if number < 150 else draw.randrange(150)
            own = random.Random(patient)
            name, age, record = own.choice(NAMES), own.randint(18, 90), own.randint(100_000, 999_999)
            label = draw.choice(list(DEPARTMENTS))
            complaint, finding = (draw.choice(words) for words in DEPARTMENTS[label])
            text = f"Patient {name}, {age}, record {record}. Comes with {complaint}. Examination: {finding}."
            writer.writerow([f"P{patient:03d}", text, label])


if __name__ == "__main__":
    main(sys.argv[1])
