-- What linked systems decided (I08): one row per number of the system, as it was delivered last.
CREATE TABLE external_application (
    application_id TEXT PRIMARY KEY,
    municipality_code TEXT NOT NULL REFERENCES municipality,
    programme_code TEXT NOT NULL,
    external_no TEXT NOT NULL,
    child_id TEXT NOT NULL REFERENCES child,
    facility_id TEXT NOT NULL REFERENCES facility,
    use_from_us BIGINT NOT NULL,
    use_to_us BIGINT NOT NULL,
    state TEXT NOT NULL,
    UNIQUE (municipality_code, programme_code, external_no)
);
