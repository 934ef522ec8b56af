"""Tables and styles that every page uses."""
