"""How text is written for people: Markdown, LaTeX, plural forms."""
