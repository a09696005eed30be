import pytest
from django_durable import enqueue
from django_durable.testing import run_jobs, crash_after
from tests.testapp.models import Charge
from tests.testapp.tasks import fulfil

@pytest.mark.django_db
def test_smoke():
    job = enqueue(fulfil, "o1", amount=3)
    assert job.state == "READY"
    (done,) = run_jobs()
    assert done.state == "SUCCESSFUL", (done.error)
    assert done.return_value == "o1 paid 3"
    assert Charge.objects.count() == 2

@pytest.mark.django_db
def test_crash():
    job = enqueue(fulfil, "o1", amount=3)
    with crash_after("charge"):
        run_jobs()
    job.refresh()
    assert job.state == "RUNNING"
    (done,) = run_jobs()
    assert done.state == "SUCCESSFUL", (done.error)
    assert Charge.objects.count() == 2
    assert done.lost_count == 0
