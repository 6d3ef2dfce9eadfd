"""The report: a finished (or unfinished) run folder becomes one page, `report.html`.

In: a run folder and the tasks it predicted, with solutions. Out: a page that needs no other file: no script,
no request, the same bytes every time it is made of the same files.
"""
