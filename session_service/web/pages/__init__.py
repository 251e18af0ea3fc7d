"""The pages for people: the first screen, the API document rendered, and their files."""
