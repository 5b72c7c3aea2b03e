"""The commands. `search.cli.group` imports these modules when a command of theirs is called.

What a command does in a line stands there too; its docstring has what its help says beyond that.
"""
