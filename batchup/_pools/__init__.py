"""Pools of workers, and what comes between them and streams.

The way of a batch
------------------
A stream asks its feed for batches. The feed is a plan, which says what is in them, and a mapper,
which has them made. Each line is a call, made by the nearest one above that is further to the left.

Without a pool:

    batch_iterator                    of the source
        Options.check                     what the user asked for
        source._make_plan                 which samples will be in which batch
        planned_feed                      the plan, and an InlineMapper
    Stream.__next__                   the user asks for a batch
        take_turns                        one thread at a time; take_quick_turns for copies of memory
            PlannedFeed.requests              once in up to 256 batches
                Plan.window                       which samples they are
            read_batches                      once for each window
                source._fetch                     reads them, one after the other

With a pool, the plan and the stream are the same:

    ParallelDataSource.batch_iterator
        source._make_plan
        Makers.only_caller                small copies of memory go the way above
        WorkersMapper.batches             hands over the first jobs
    Stream.__next__
        take_turns
            WorkersMapper._deliver            once for each job
                Makers.result                     waits for the oldest task
                    Task.result
                WorkersMapper._fill               hands over jobs in its place
                    WorkersMapper._groups             which requests are the next job
                        PlannedFeed.request
                            Plan.window
                    Makers.submit                     or the caller makes the batches
                        Channel.submit                    the job becomes a task

Threads:

    user's thread                     worker thread
    -------------                     -------------
    _ThreadChannel.submit  -- queue ->  _Crew._work
                                            Fetch.run
                                                read_batches
    _ThreadTask.result     <- flag ---      _ThreadTask.settle

Processes:

    user's thread                     supervisor's thread            worker process
    -------------                     -------------------            --------------
    ProcessChannel.submit
        ProcessTask
        Supervisor.submit  -- bell -->  Supervisor._hand_out
                                            ProcessTask.bind
                                                Ring.take
                                            WorkerHandle.give  -- pipe -->  Worker._run
                                                                                Fetch.run
                                                                                    read_batches
                                        Supervisor._receive    <- pipe ---      _pack
    ProcessTask.result     <- flag ---      ProcessTask.settle
        ProcessChannel.unpack

A `WorkerAutoPool` tries which of these ways is best, for some batches each, and then there are no traces of it:

    AutoDataSource._feed_of_workers   once it is decided, one of the ways above
    AutoMapper.batches                until then
        AutoMapper._stretches             once for each trial
            Calibration.next_way
            Stretch.requests              those of the trial
            Meter.measure                 the user's loop

Executors are as threads, with futures in place of the queue: `_ExecutorChannel.submit`, `run_job` in
the worker, `_ExecutorTask.result`.

Where this is: `Stream` and `take_turns` in `_streams/stream.py` and `turns.py`, `PlannedFeed` and
`InlineMapper` in `planned.py`; `planned_feed` and `read_batches` in `_sources/reading.py`; of this room,
`WorkersMapper` and `Makers` in `mapper.py`, `Fetch` in `jobs.py`, tasks and channels in `channel.py`,
`threads.py`, `executors.py` and `processes/`, `AutoMapper` and `Stretch` in `auto.py`, `Meter` and
`Calibration` in `calibration.py`. What goes to worker processes, and what is refused, is in `shipping.py`,
`pickling.py`, `importing.py` and `clusters.py`.
"""
