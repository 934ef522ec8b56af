"""How text is written for people, Markdown, LaTeX, plural forms, and which text they see whole."""
