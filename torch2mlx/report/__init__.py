"""Portability reports for people and programs: SARIF, HTML. The text is the report's own str."""
