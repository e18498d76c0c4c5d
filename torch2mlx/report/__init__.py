"""Reports for people and programs: pages, SARIF, Markdown. Text is the results' own str."""
