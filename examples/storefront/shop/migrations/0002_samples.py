"""Something to look at: five products and a hundred customers."""

from django.db import migrations

PRODUCTS = {
    "Celeriac, two": "3.20",
    "Soup bowl": "14.00",
    "Wooden spoon": "4.50",
    "Pot with a lid": "39.90",
    "Cookery book": "24.00",
}


def fill(apps, editor):
    """Put them in."""
    product, customer = apps.get_model("shop", "Product"), apps.get_model("shop", "Customer")
    product.objects.bulk_create(product(name=name, price=price) for name, price in PRODUCTS.items())
    customer.objects.bulk_create(customer(email=f"customer{n}@example.com") for n in range(100))


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
