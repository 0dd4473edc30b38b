"""`skyfan model export`: from a class of the user's own and its weights to a program that Skyfan runs anywhere.

This is the one door through which code of the user's runs: their module is imported, and their class called, in a
child process whose path of modules begins with the current folder. What the child makes is a program like any other,
opened and tried by the same checks (`skyfan.models.programs`) as one from a stranger.
"""
