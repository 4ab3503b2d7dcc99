"""The same form twice: one makes its visitor wait, the other does not."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from celeriac.exceptions import OperationalError
from contact.forms import FeedbackForm
from contact.mail import send_feedback_mail
from contact.tasks import send_feedback_email_task


def synchronous(request: HttpRequest) -> HttpResponse:
    """Send the mail here and now; the visitor looks at a page that does not come."""
    form = FeedbackForm(request.POST or None)
    if form.is_valid():
        send_feedback_mail(*form.mail())
        return redirect("success")
    return page(request, form, "synchronous")


def feedback(request: HttpRequest) -> HttpResponse:
    """Have the mail sent by a worker."""
    form = FeedbackForm(request.POST or None)
    if form.is_valid():
        try:
            send_feedback_email_task.delay(*form.mail())
        except OperationalError:
            # The form keeps its key: sent again, it is still the same mail.
            form.add_error(None, "We cannot take your feedback right now. Please try again soon.")
            return page(request, form, "feedback", status=503)
        return redirect("success")
    return page(request, form, "feedback")


def success(request: HttpRequest) -> HttpResponse:
    """Thank them."""
    return render(request, "contact/success.html")


def page(request: HttpRequest, form: FeedbackForm, way: str, status: int = 200) -> HttpResponse:
    """Show the form."""
    return render(request, "contact/feedback.html", {"form": form, "way": way}, status=status)
