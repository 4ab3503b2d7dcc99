"""One page."""

from django.db import transaction
from django.http import JsonResponse

from orders.models import Order
from orders.tasks import ship


@transaction.atomic
def buy(request, name):
    """Store an order and have it shipped."""
    order = Order.objects.create(name=name)
    ship.delay_on_commit(order.pk)
    return JsonResponse({"order": order.pk})
