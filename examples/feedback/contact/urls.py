"""Where the pages are."""

from django.urls import path

from contact import views

urlpatterns = [
    path("", views.feedback, name="feedback"),
    path("sync/", views.synchronous, name="synchronous"),
    path("success/", views.success, name="success"),
]
