"""Pages and tables for people: ``report.html``, ``predictions.csv``."""
