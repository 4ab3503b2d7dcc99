"""A visitor: fills in the form as a browser does, and says how long the site took.

`python visitor.py` goes to the form that a worker answers, `python visitor.py sync/` to the one that
makes its visitor wait; `--twice` presses the button twice.
"""

import argparse
import re
import time
import urllib.request
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode


def value(page: str, name: str) -> str:
    """Return what a hidden field of the page holds."""
    return re.search(rf'name="{name}" value="([^"]+)"', page)[1]


def said(page: str) -> str:
    """Return what is wrong, or else the heading."""
    wrong = re.search(r'role="alert">([^<]+)<', page)
    return (wrong or re.search(r"<h1>([^<]+)</h1>", page))[1]


parser = argparse.ArgumentParser()
parser.add_argument("path", nargs="?", default="")
parser.add_argument("--site", default="http://localhost:8000/")
parser.add_argument("--twice", action="store_true")
given = parser.parse_args()

url = given.site + given.path
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
form = browser.open(url).read().decode()
fields = {
    "email": "ann@example.com",
    "message": "Very good soup.",
    "key": value(form, "key"),
    "csrfmiddlewaretoken": value(form, "csrfmiddlewaretoken"),
}
for _ in range(2 if given.twice else 1):
    began = time.monotonic()
    try:
        answer = browser.open(url, urlencode(fields).encode())
    except HTTPError as error:
        answer = error
    with answer:
        print(
            f"{answer.status} {said(answer.read().decode())} (after {time.monotonic() - began:.1f} s)"
        )
