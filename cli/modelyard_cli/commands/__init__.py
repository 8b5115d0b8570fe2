"""The subcommands, in groups: options in, text out."""
