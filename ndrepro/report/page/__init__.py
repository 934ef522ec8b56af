"""A report's page: contents, HTML, Markdown, files."""
