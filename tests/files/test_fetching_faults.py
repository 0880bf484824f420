"""Data sets that are fetched on full and read-only disks, by several at once, and killed meanwhile."""

import signal
import threading
from pathlib import Path

import pytest

from batchup.datasets.dataset import DownloadSourceFile, ExistingSourceFile, delete_dataset_cache
from batchup.errors import StorageError

from ..harness.fetched import DATA, SHA256, dataset
from ..harness.homes import files_in, finish, make_read_only, start_script
from ..harness.servers import Reply
from ..harness.waiting import until

pytestmark = pytest.mark.usefixtures('home')


# Disks.


def test_a_full_disk(source, mounted, monkeypatch):
    folder = mounted(64)
    monkeypatch.setenv('BATCHUP_HOME', str(folder))
    with pytest.raises(StorageError, match=r'copy\.bin: No space left on device; .* bytes are free there; make room'):
        dataset(ExistingSourceFile(source))()
    assert files_in(folder) == []


@pytest.mark.parametrize('sha256', [SHA256, None])
def test_a_disk_that_is_full_after_the_download(server, mounted, monkeypatch, sha256):
    folder = mounted(150)
    monkeypatch.setenv('BATCHUP_HOME', str(folder))
    files = DownloadSourceFile('file', server.give('file', DATA), sha256=sha256)
    with pytest.raises(StorageError, match=rf'by hand at .*/file{f", with SHA-256 {sha256}" if sha256 else ""}\.$'):
        dataset(files)()
    # It need not be downloaded again when there is room.
    assert files_in(folder) == ['data/downloads/copy.bin/file', 'data/downloads/copy.bin/file.made']


def test_a_read_only_folder(server, mounted, monkeypatch):
    folder = mounted()
    (folder / 'data').mkdir()
    make_read_only(folder)
    monkeypatch.setenv('BATCHUP_HOME', str(folder))
    with pytest.raises(StorageError) as caught:
        dataset(DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256))()
    assert 'make the folder writable, or choose another folder' in str(caught.value)
    assert f'by hand at {folder}/data/downloads/copy.bin/file, with SHA-256 {SHA256}' in str(caught.value)
    assert server.requests == []


def test_a_read_only_folder_with_the_data_set_will_do(source, mounted, monkeypatch):
    folder = mounted()
    monkeypatch.setenv('BATCHUP_HOME', str(folder))
    fetch = dataset(ExistingSourceFile(source))
    fetch()
    make_read_only(folder)
    assert Path(fetch()).read_bytes() == DATA


def test_a_file_in_the_way_of_downloads(server, data):
    data.mkdir(parents=True)
    (data / 'downloads').write_bytes(b'')
    with pytest.raises(StorageError, match=r'the problem is with .*/downloads'):
        dataset(DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256))()


# Several at once.


def test_threads_that_ask_at_once_fetch_once(server):
    url = server.give('file', Reply(DATA, trickle=0.05))
    fetch = dataset(DownloadSourceFile('file', url, sha256=SHA256))
    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(fetch.calls), len(server.requests)) == (1, 1)


FETCH = """
    import os, shutil, sys, time
    from batchup.datasets.dataset import DownloadSourceFile, fetch_and_convert_dataset

    url, sha256, seconds = sys.argv[1:]

    @fetch_and_convert_dataset([DownloadSourceFile('file', url, sha256=sha256)], 'copy.bin')
    def fetch(source_paths, target_path):
        shutil.copyfile(source_paths[0], target_path)
        print('converted', flush=True)
        time.sleep(float(seconds))

    fetch()
    print('fetched', flush=True)
"""


def test_processes_that_ask_at_once_fetch_once(server, data):
    url = server.give('file', Reply(DATA, trickle=0.1))
    processes = [start_script(FETCH, url, SHA256, 0.1) for _ in range(2)]
    outputs = sorted(finish(process) for process in processes)
    assert outputs == ['converted\nfetched', 'fetched']
    assert len(server.requests) == 1
    assert files_in(data) == ['copy.bin']


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_kill_during_the_download(server, data):
    url = server.give('file', Reply(DATA, stall=80_000), DATA)
    process = start_script(FETCH, url, SHA256, 0)
    part = data / 'downloads' / 'copy.bin' / 'file.part'
    assert until(lambda: part.exists() and part.stat().st_size > 50_000)
    kill(process)
    assert not (data / 'copy.bin').exists()
    assert finish(start_script(FETCH, url, SHA256, 0)) == 'converted\nfetched'
    assert server.starts[1] > 50_000
    assert files_in(data) == ['copy.bin']


def test_a_kill_during_the_conversion(server, data):
    url = server.give('file', DATA)
    process = start_script(FETCH, url, SHA256, 60)
    assert process.stdout.readline() == 'converted\n'
    kill(process)
    assert not (data / 'copy.bin').exists()
    assert finish(start_script(FETCH, url, SHA256, 0)) == 'converted\nfetched'
    assert len(server.requests) == 1
    assert files_in(data) == ['copy.bin']


def test_whoever_waits_goes_on_after_a_kill(server, data):
    url = server.give('file', DATA)
    first = start_script(FETCH, url, SHA256, 60)
    assert first.stdout.readline() == 'converted\n'
    second = start_script(FETCH, url, SHA256, 0)
    kill(first)
    assert finish(second) == 'converted\nfetched'
    assert files_in(data) == ['copy.bin']


def test_what_a_kill_left_is_deleted(server, data):
    process = start_script(FETCH, server.give('file', DATA), SHA256, 60)
    assert process.stdout.readline() == 'converted\n'
    kill(process)
    assert len(files_in(data)) > 2
    delete_dataset_cache('copy.bin')
    assert files_in(data) == []


def test_an_interrupt_leaves_what_came(server, data):
    url = server.give('file', Reply(DATA, stall=80_000), DATA)
    process = start_script(FETCH, url, SHA256, 0)
    part = data / 'downloads' / 'copy.bin' / 'file.part'
    assert until(lambda: part.exists() and part.stat().st_size > 50_000)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert files_in(data) == ['downloads/copy.bin/file.part']
