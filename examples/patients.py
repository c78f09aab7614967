"""Made-up patient records for the tutorial on private training: `python examples/patients.py patients.csv`.

360 notes of 300 patients who never lived: name, age, record number, complaint, finding, and the department that takes
the patient over. The same file every time.
"""

import csv
import random
import sys

PATIENTS, NOTES = 300, 360
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
        writer.writerow(["patient", "text"])
        for number in range(NOTES):
            patient = number if number < PATIENTS else draw.randrange(PATIENTS)
            own = random.Random(patient)
            name, age, record = own.choice(NAMES), own.randint(18, 90), own.randint(100_000, 999_999)
            department = draw.choice(list(DEPARTMENTS))
            complaint, finding = (draw.choice(words) for words in DEPARTMENTS[department])
            who = f"Patient {name}, {age}, record {record}."
            text = f"{who} Comes with {complaint}. Examination: {finding}. To {department}."
            writer.writerow([f"P{patient:03d}", text])


if __name__ == "__main__":
    main(sys.argv[1])
