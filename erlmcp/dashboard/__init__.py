"""A page in the browser that shows a server at work, and the data that it is fed with."""
