"""The subcommands of `crossover`, a file a subject; each calls one function.

Imports of torch and Ray happen inside the commands, so that `crossover --help` answers in a fraction of a second.
"""
