"""Tables: in the terminal, as Markdown, LaTeX and CSV."""
