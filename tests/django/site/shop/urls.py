"""Pages: the admin, and one that sends a task."""

from django.contrib import admin
from django.urls import path
from orders.views import buy

urlpatterns = [path("admin/", admin.site.urls), path("buy/<str:name>", buy)]
