"""Where the pages are."""

from django.urls import path
from work import views

urlpatterns = [
    path("", views.page),
    path("start/<str:name>/", views.start),
    path("result/<str:name>/<str:task_id>/", views.result, name="result"),
]
