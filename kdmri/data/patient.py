"""Patient data, kept apart from arrays and explicit wherever it travels.

Only DICOM answers need it. Everything else (logs, metrics, other processes) takes a scan after
`KSpace.without_patient`, and the type's text form shows no value, so that a record that is logged by mistake names
nobody.
"""


class PatientAndStudy(dict[str, str]):
    """Values of DICOM attributes by keyword, as a file states them: patient, study, frame of reference and protocol."""

    # A plain dictionary would print its values into any log line, traceback or assertion that it takes part in.
    def __repr__(self) -> str:
        return f"{type(self).__name__}(<{len(self)} attributes>)"

    __str__ = __repr__
