"""Somebody in the shop: presses the button as a browser does, and says how long the site took.

`python visitor.py "Soup is ready"`
"""

import argparse
import re
import time
import urllib.request
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode

parser = argparse.ArgumentParser()
parser.add_argument("text")
parser.add_argument("--site", default="http://localhost:8000/")
given = parser.parse_args()

browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
page = browser.open(given.site).read().decode()
token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
fields = {"text": given.text, "csrfmiddlewaretoken": token}

began = time.monotonic()
try:
    answer = browser.open(given.site + "notify/", urlencode(fields).encode())
except HTTPError as error:
    answer = error
with answer:
    page = answer.read().decode()
said = re.search(r'role="(?:status|alert)">([^<]+)<', page)[1]
print(f"{answer.status} {said} (after {time.monotonic() - began:.1f} s)")
