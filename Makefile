# Thin: each target calls the tool that does the work.
