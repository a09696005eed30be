"""The machine, private to the package. The life of one job, in reading order:

1. ``jobs.enqueue`` -> ``engine.intake.submit``       the call is checked and encoded
2. ``engine.enqueueing.insert_job``                   one INSERT in the caller's transaction
3. the caller commits; a NOTIFY may wake a worker
4. ``engine.worker.Worker.run``                       the loop: claim, hand to slots, stop
5. ``engine.claims.claim_jobs``                       rows become RUNNING under a new lease token
6. ``engine.executor.execute``                        judge, load, call, decide, record
7. ``steps.Step.__call__`` -> ``engine.stepping``     each step saves its checkpoint
8. ``engine.outcomes.finish_jobs``                    the end, written under the lease; many plain
                                                      successes together, by ``engine.finishing``

Floors, each importing from lower ones only: doors (admin, commands, testing) over running
(worker, executor) over authoring (tasks, steps, jobs) over the store (enqueueing, claims, liveness,
outcomes, checkpoints, waits, retention) over ground (models, conf, sql) over plain code (codec,
replay).

The rules that carry everything: every write to a running job names its lease token; lock first,
look in a later statement or under the lock; locks are taken in the order worker, jobs by id,
checkpoints, keys; a COMMIT whose answer is lost is repeated, never forgotten.
"""
