"""Downloads of wrong files, from slow servers, to full disks, and by several at once."""

import hashlib
import os
import signal
import threading
import time

import pytest

from batchup import config
from batchup._files.placing import locked
from batchup.errors import ChecksumError, StorageError

from ..harness.downloaded import DATA, SHA256, refused, verified
from ..harness.homes import files_in, finish, make_read_only, start_script
from ..harness.pools import MAY_FORK
from ..harness.servers import Reply
from ..harness.waiting import until

pytestmark = pytest.mark.usefixtures('home')


# Servers that are slow.


def test_a_server_that_stops_sending_is_given_up(server, target):
    url = server.give('file', Reply(DATA, stall=1000), DATA)
    assert verified(target, url, timeout=0.5) == DATA
    assert server.starts == [None, 1000]


def test_a_server_that_never_answers_is_given_up(server, target):
    url = server.give('file', Reply(DATA, stall=0))
    assert 'no answer within 0.1 seconds' in refused(target, url, timeout=0.1)


def test_a_server_that_trickles_is_given_up(server, target):
    url = server.give('file', Reply(DATA, piece=1, trickle=0.02))
    assert 'sent less than 256 bytes a second' in refused(target, url, timeout=0.2, attempts=1)


@pytest.mark.slow
def test_a_slow_server_has_its_time(server, target):
    """It takes several times the timeout altogether."""
    url = server.give('file', Reply(DATA[:2000], piece=200, trickle=0.15))
    assert verified(target, url, hashlib.sha256(DATA[:2000]).hexdigest(), timeout=0.5, attempts=1) == DATA[:2000]


# Servers that claim what cannot be.

ABSURD = ['9' * 17, '1' + '0' * 18, '9' * 5000, '-5', 'many', '1.5', '10\r\nContent-Length: 300000']


@pytest.mark.parametrize('sha256', [SHA256, None])
@pytest.mark.parametrize('length', ABSURD)
def test_an_absurd_length_gives_way_to_the_next_address(server, target, length, sha256):
    liar = server.give('liar', Reply(DATA, headers={'Content-Length': length}))
    assert verified(target, [liar, server.give('file', DATA)], sha256) == DATA
    assert [asked.path for asked in server.requests] == ['/liar', '/file']


@pytest.mark.parametrize('whole', ['9' * 17, '9' * 5000, 'many', '', '-5', '500', '2000'])
def test_an_absurd_range_gives_way_and_what_is_there_is_kept(server, target, whole):
    target.parent.mkdir()
    target.with_name('file.bin.part').write_bytes(DATA[:1000])
    liar = server.give('liar', Reply(DATA, headers={'Content-Range': f'bytes 1000-299999/{whole}'}))
    assert verified(target, [liar, server.give('file', DATA)]) == DATA
    assert server.starts == [1000, 1000]


def test_of_a_redirection_nothing_but_the_address_is_read(server, target):
    headers = {'Location': server.give('file', DATA), 'Content-Length': '1' + '0' * 18}
    assert verified(target, server.give('moved', Reply(DATA, status=302, headers=headers))) == DATA


@pytest.mark.parametrize('address', ['http://[', 'http://127.0.0.1:99999/file', f'http://{"a" * 70}/file'])
def test_a_redirection_to_an_address_that_cannot_be(server, target, address):
    moved = server.give('moved', Reply(status=302, headers={'Location': address}))
    assert verified(target, [moved, server.give('file', DATA)]) == DATA


def test_claims_are_named_if_no_address_gives_the_file(server, target):
    lengths = {'many': '9' * 15, 'none': '-5'}
    urls = [server.give(name, Reply(headers={'Content-Length': length})) for name, length in lengths.items()]
    message = refused(target, urls)
    assert f'{urls[0]}: 999,999,999,999,999 bytes are needed' in message
    assert f"{urls[1]}: says that the file has '-5' bytes" in message


# Other files than expected.


def test_another_file_is_an_error(server, target):
    message = refused(target, server.give('file', b'wrong'), ChecksumError)
    assert f'gave another file, with SHA-256 {hashlib.sha256(b"wrong").hexdigest()}' in message
    assert len(server.requests) == 1
    assert files_in(target.parent) == []


def test_another_file_leaves_what_was_there(server, target):
    target.parent.mkdir()
    target.write_bytes(b'before')
    message = refused(target, server.give('file', DATA), ChecksumError, '0' * 64)
    assert f'is another one, with SHA-256 {hashlib.sha256(b"before").hexdigest()}' in message
    assert (files_in(target.parent), target.read_bytes()) == (['file.bin'], b'before')


def test_wrong_files_and_failures_together_are_failures(server, target):
    urls = [server.give('first', b'wrong'), server.give('second', Reply(status=404))]
    assert 'gave another file' in refused(target, urls)


def test_an_error_of_the_name_service(target):
    assert 'file.bin' in refused(target, 'http://nowhere.invalid/file.bin')


# The disk.


def test_a_file_for_which_there_is_no_room_is_not_begun(server, mounted):
    folder = mounted(200)
    message = refused(folder / 'file.bin', server.give('file', DATA), StorageError)
    assert f'cannot download {folder}/file.bin: 300,000 bytes are needed' in message
    assert files_in(folder) == []


def test_there_is_no_room_if_all_addresses_say_so(server, mounted):
    urls = [server.give('liar', Reply(headers={'Content-Length': '9' * 17})), server.give('file', DATA)]
    assert ' 300,000 bytes are needed' in refused(mounted(200) / 'file.bin', urls, StorageError)


@pytest.mark.parametrize('sha256', [SHA256, None])
def test_a_disk_that_becomes_full(server, mounted, sha256):
    folder = mounted(200)
    url = server.give('file', Reply(DATA, headers={'Content-Length': None}))
    message = refused(folder / 'file.bin', url, StorageError, sha256)
    assert 'No space left on device' in message
    assert files_in(folder) == []
    assert len(server.requests) == 1


def test_a_read_only_folder(server, mounted):
    folder = mounted()
    make_read_only(folder)
    message = refused(folder / 'file.bin', server.give('file', DATA), StorageError)
    assert 'Read-only file system; make the folder writable, or choose another folder' in message
    assert server.requests == []


@pytest.mark.parametrize('sha256', [SHA256, None])
def test_a_folder_in_the_way(server, target, sha256):
    target.mkdir(parents=True)
    assert 'move it away' in refused(target, server.give('file', DATA), StorageError, sha256)
    assert server.requests == []


def test_a_file_in_the_way_of_the_folder(server, target):
    target.parent.write_text('')
    assert f'the problem is with {target.parent}' in refused(target, server.give('file', DATA), StorageError)


# Several at once.


def test_threads_that_ask_at_once_download_once(server, target):
    url = server.give('file', Reply(DATA, trickle=0.05))
    threads = [threading.Thread(target=config.download_and_verify, args=(target, url, SHA256)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert verified(target, url) == DATA


ASK = """
    import sys
    from batchup import config
    print(config.download_and_verify(*sys.argv[1:], timeout=5))
"""


def test_processes_that_ask_at_once_download_once(server, target):
    url = server.give('file', Reply(DATA, trickle=0.1))
    processes = [start_script(ASK, target, url, SHA256) for _ in range(2)]
    assert [finish(process) for process in processes] == [str(target)] * 2
    assert len(server.requests) == 1
    assert verified(target, url) == DATA


def test_a_killed_download_is_continued(server, target):
    url = server.give('file', Reply(DATA, stall=200_000), DATA)
    process = start_script(ASK, target, url, SHA256)
    part = target.with_name('file.bin.part')
    assert until(lambda: part.exists() and part.stat().st_size > 100_000)
    process.kill()
    process.communicate()
    assert 'file.bin.part' in files_in(target.parent)
    assert verified(target, url) == DATA
    assert server.starts[1] > 100_000


def test_a_lock_keeps_threads_out(target):
    inside, order = threading.Event(), []

    def second():
        inside.wait()
        with locked(target):
            order.append('second')

    thread = threading.Thread(target=second)
    thread.start()
    with locked(target):
        inside.set()
        time.sleep(0.1)
        order.append('first')
    thread.join()
    assert order == ['first', 'second']
    assert files_in(target.parent) == []


def test_only_one_thread_at_a_time_has_a_lock(target):
    inside, most = [], []

    def enter():
        for _ in range(20):
            with locked(target):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 120


@MAY_FORK
def test_a_process_that_was_forked_meanwhile_keeps_no_lock(target):
    def wait():
        with locked(target):
            pass

    thread = threading.Thread(target=wait)
    with locked(target):
        thread.start()
        time.sleep(0.1)
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    thread.join(10)
    waits = thread.is_alive()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not waits
