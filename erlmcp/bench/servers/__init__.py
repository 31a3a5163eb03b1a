"""The same server in several libraries. Each file stands alone: it runs under an interpreter that may lack erlmcp."""
