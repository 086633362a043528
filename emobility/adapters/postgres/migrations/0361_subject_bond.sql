-- What is sealed before anybody knows whose it is, a transaction's signed records, shares its person's fate afterwards.

CREATE TABLE subject_bond (
    subject TEXT NOT NULL,
    dependent TEXT NOT NULL,
    PRIMARY KEY (subject, dependent)
);
