"""A page with a button for each flow, and one for what it gives."""

from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from celeriac.result import AsyncResult, GroupResult
from work.flows import FLOWS


def page(request):
    about = {name: flow.__doc__ for name, flow in FLOWS.items()}
    return render(request, "work/page.html", {"flows": about})


@require_POST
def start(request, name):
    if name not in FLOWS:
        raise Http404(name)
    begun = FLOWS[name]()
    if isinstance(begun, GroupResult):
        begun.save()  # so that the next request finds its parts
    return redirect("result", name, begun.id)


def result(request, name, task_id):
    found = GroupResult.restore(task_id) or AsyncResult(task_id)
    ready = found.ready()
    given = found.get(propagate=False) if ready else None
    return render(request, "work/result.html", {"name": name, "ready": ready, "given": given})
