CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    made TEXT NOT NULL,
    request TEXT NOT NULL,
    study INTEGER NOT NULL CHECK (study IN (0, 1)),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
    verdict TEXT,
    message TEXT
) STRICT;
CREATE TABLE documents (
    job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    name TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (job, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    base TEXT NOT NULL,
    prompt TEXT NOT NULL UNIQUE,
    job INTEGER REFERENCES jobs
) STRICT;
CREATE TABLE raters (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE,
    made TEXT NOT NULL
) STRICT;
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY,
    rater INTEGER NOT NULL REFERENCES raters,
    item INTEGER NOT NULL REFERENCES items,
    first TEXT NOT NULL CHECK (first IN ('localised', 'base')),
    UNIQUE (rater, item)
) STRICT;
CREATE TABLE clicks (
    id INTEGER PRIMARY KEY,
    rater INTEGER NOT NULL,
    item INTEGER NOT NULL,
    system TEXT NOT NULL CHECK (system IN ('localised', 'base')),
    scale TEXT NOT NULL,
    score INTEGER NOT NULL CHECK (score BETWEEN 1 AND 5),
    made TEXT NOT NULL,
    FOREIGN KEY (rater, item) REFERENCES assignments (rater, item)
) STRICT;
CREATE INDEX clicks_by_question ON clicks (rater, item, system, scale);
-- a click is never overwritten; a rating is the last click on its question
CREATE VIEW ratings AS
    SELECT * FROM clicks WHERE id IN (SELECT max(id) FROM clicks GROUP BY rater, item, system, scale);
CREATE TABLE comments (
    rater INTEGER NOT NULL,
    item INTEGER NOT NULL,
    text TEXT NOT NULL,
    made TEXT NOT NULL,
    PRIMARY KEY (rater, item),
    FOREIGN KEY (rater, item) REFERENCES assignments (rater, item)
) STRICT, WITHOUT ROWID;
