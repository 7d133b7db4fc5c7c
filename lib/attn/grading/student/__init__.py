"""All of the grader that runs beside a student's code. Nothing here knows an answer, a seed or a check.

In a fence this folder is all that is left of `attn.grading`; so it imports nothing of the rest.
"""
