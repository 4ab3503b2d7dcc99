"""`manage.py start NAME ...`: start flows, one after another, and print what each gives."""

from itertools import pairwise

from django.core.management.base import BaseCommand

from work.flows import FLOWS


class Command(BaseCommand):
    help = "Start flows, one after another, and print what each gives."

    def add_arguments(self, parser):
        parser.add_argument("names", nargs="+", choices=FLOWS, metavar="NAME")
        parser.add_argument("--no-wait", action="store_true", help="send, and end")

    def handle(self, *args, names, no_wait, **options):
        for name in names:
            result = FLOWS[name]()
            if no_wait:
                self.stdout.write(f"{name}: sent")
                continue
            given = result.get(timeout=60)
            if name == "rates":
                # When each began, after the one before it, in seconds.
                times = sorted(at for _, at in given)
                given = [round(later - at, 1) for at, later in pairwise(times)]
            self.stdout.write(f"{name}: {given}")
