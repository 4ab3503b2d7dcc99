"""The shop's page, and the button that tells customers something."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from celeriac.exceptions import OperationalError
from shop.models import Notice, Product
from shop.tasks import notify_customers


def storefront(request: HttpRequest) -> HttpResponse:
    """Show what there is to buy, and the last notices."""
    found = {"products": Product.objects.all(), "notices": Notice.objects.all()[:8]}
    return render(request, "shop/storefront.html", found)


@require_POST
def notify(request: HttpRequest) -> HttpResponse:
    """Have all customers told; do not wait until they are."""
    text = request.POST.get("text", "").strip()[:200] or "Hello"
    try:
        notify_customers.delay(text)
    except OperationalError:  # Redis is away
        if not settings.KEEP_NOTICES:
            return render(request, "shop/later.html", {"text": text}, status=503)
        Notice.objects.create(text=text, state=Notice.State.KEPT)
        messages.warning(request, "Customers will be told a little later.")
    else:
        messages.success(request, "Customers are being told.")
    return redirect("storefront")
