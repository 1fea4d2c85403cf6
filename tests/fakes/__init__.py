"""Stand-ins shared by the tests: data sets, a detector, a PACS."""
