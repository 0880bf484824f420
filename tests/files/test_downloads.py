"""Downloads from a server that fails in every way."""

import hashlib
import threading

import numpy as np
import pytest

from batchup import config
from batchup._files import downloads

from ..harness.downloaded import DATA, MD5, SHA256, refused, verified
from ..harness.homes import files_in
from ..harness.servers import Reply, free_port, serving

pytestmark = pytest.mark.usefixtures('home')


# Downloads that go well.


def test_a_file_is_downloaded(server, target):
    assert verified(target, server.give('file', DATA)) == DATA
    assert server.starts == [None]


def test_the_right_file_is_not_downloaded_again(server, target):
    url = server.give('file', DATA)
    verified(target, url)
    assert verified(target, url) == DATA
    assert len(server.requests) == 1


def test_another_file_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(b'other')
    assert verified(target, server.give('file', DATA)) == DATA


def test_without_a_checksum_any_file_is_right(server, target):
    url = server.give('file', DATA)
    assert verified(target, url, None) == DATA
    target.write_bytes(b'other')
    assert verified(target, url, None) == b'other'


def test_md5_will_do(server, target):
    assert verified(target, server.give('file', DATA), None, md5=MD5) == DATA


def test_download_always_downloads(server, target):
    url = server.give('file', b'first', b'second')
    for expected in (b'first', b'second'):
        assert config.download(target, url) == str(target)
        assert target.read_bytes() == expected
    assert files_in(target.parent) == ['file.bin']


def test_data_are_downloaded_into_the_data_folder(server, home):
    path = config.download_data('file.bin', server.give('file', DATA), SHA256)
    assert path == str(home / '.batchup' / 'data' / 'file.bin')
    assert config.verify_file(path, SHA256)


@pytest.mark.parametrize(
    'reply',
    [
        Reply(DATA, chunked=True),
        Reply(DATA, headers={'Content-Length': None}),
        Reply(DATA, ranges=False),
        Reply(DATA, trickle=0.001),
    ],
    ids=['chunked', 'no length', 'no ranges', 'slow'],
)
def test_answers_of_every_form(server, target, reply):
    assert verified(target, server.give('file', reply)) == DATA


def test_an_empty_file(server, target):
    assert verified(target, server.give('file', b''), hashlib.sha256(b'').hexdigest()) == b''


@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_redirections_are_followed(server, target, status):
    there = server.give('there', DATA)
    url = server.give('file', Reply(status=status, headers={'Location': there}))
    assert verified(target, url) == DATA


def test_a_part_is_asked_for_through_a_redirection(server, target):
    there = server.give('there', Reply(DATA, cut=100_000), DATA)
    assert verified(target, server.give('file', Reply(status=302, headers={'Location': there}))) == DATA
    assert server.starts == [None, None, 100_000, 100_000]


def test_addresses_are_quoted(server, target):
    server.give('a%20file%C3%A9?x=%41', DATA)
    assert verified(target, f'{server.url}/a fileé?x=%41') == DATA


# Several addresses.


@pytest.mark.parametrize(
    'reply',
    [
        Reply(status=404),
        Reply(status=500),
        Reply(b'another file'),
        Reply(DATA, cut=0),
        Reply(DATA, cut=5, reset=True),
        Reply(status=302, headers={'Location': 'file:///etc/passwd'}),
        Reply(status=302),
        Reply(DATA, status=206),
    ],
    ids=['404', '500', 'wrong', 'empty', 'reset', 'redirected to a file', 'redirected nowhere', 'part'],
)
def test_the_next_address_is_tried(server, target, reply):
    urls = [server.give('first', reply), server.give('second', DATA), server.give('third', DATA)]
    assert verified(target, urls) == DATA
    assert [asked.path for asked in server.requests] == ['/first', '/second']


def test_an_address_where_nobody_answers_is_passed_over(server, target):
    assert verified(target, [f'http://127.0.0.1:{free_port()}/file', server.give('file', DATA)]) == DATA


def test_an_address_that_hangs_is_passed_over(server, target):
    urls = [server.give('first', Reply(DATA, stall=0)), server.give('second', DATA)]
    assert verified(target, urls, timeout=0.5) == DATA


def test_the_second_address_goes_on_where_the_first_ended(server, target):
    urls = [server.give('first', Reply(DATA, cut=100_000)), server.give('second', DATA)]
    assert verified(target, urls) == DATA
    assert server.starts == [None, 100_000]


def test_halves_of_different_files_do_not_go_together(server, target):
    """The first address always gives the beginning of another file, the second the right one."""
    urls = [server.give('first', Reply(bytes(300_000), cut=100_000)), server.give('second', DATA)]
    assert verified(target, urls, attempts=1) == DATA
    assert [(asked.path, asked.start) for asked in server.requests] == [
        ('/first', None), ('/second', 100_000), ('/second', None)
    ]  # fmt: skip


def test_the_error_names_every_address(server, target):
    urls = [server.give('first', Reply(status=404)), server.give('second', Reply(status=503))]
    lines = refused(target, urls).splitlines()
    assert lines[0] == 'cannot download file.bin:'
    assert lines[1] == f'  {urls[0]}: HTTP 404 Not Found'
    assert lines[2] == f'  {urls[1]}: HTTP 503 Service Unavailable (tried 2 times)'
    assert lines[3] == f'Or place the file by hand at {target}, with SHA-256 {SHA256}.'
    assert files_in(target.parent) == []


# More tries.


@pytest.mark.parametrize('status', [408, 425, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(server, target, status):
    assert verified(target, server.give('file', Reply(status=status), Reply(status=status), DATA)) == DATA
    assert len(server.requests) == 3


@pytest.mark.parametrize('status', [400, 401, 403, 404, 410, 416, 501])
def test_lasting_failures_are_not(server, target, status):
    assert f'HTTP {status}' in refused(target, server.give('file', Reply(status=status)))
    assert len(server.requests) == 1


def test_a_redirection_in_a_circle_ends(server, target):
    url = server.give('file', Reply(status=302, headers={'Location': '/file'}))
    assert 'infinite loop' in refused(target, url)


def test_attempts_are_counted(server, target):
    assert '(tried 3 times)' in refused(target, server.give('file', Reply(status=503)), attempts=3)
    assert len(server.requests) == 3


def slept(monkeypatch, server, target, reply, **options):
    """Return how long tries wait for each other."""
    waits = []
    monkeypatch.setattr(downloads.time, 'sleep', waits.append)
    refused(target, server.give('file', reply), **options)
    return waits


def test_waits_become_longer(monkeypatch, server, target):
    assert slept(monkeypatch, server, target, Reply(status=503), attempts=4, backoff=0.5) == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ('asked', 'waits'), [('1', [1.0]), ('9999', [2.0]), ('0', [0.01]), ('²', [0.01]), ('Fri, 20 Nov 2026', [0.01])]
)
def test_servers_say_when_to_come_again(monkeypatch, server, target, asked, waits):
    reply = Reply(status=503, headers={'Retry-After': asked})
    assert slept(monkeypatch, server, target, reply) == waits


def test_a_server_that_comes_up_later_is_reached(target):
    port = free_port()
    arguments = target, f'http://127.0.0.1:{port}/file', SHA256
    thread = threading.Thread(target=config.download_and_verify, args=arguments, kwargs={'backoff': 0.1})
    thread.start()
    with serving(port, file=DATA):
        thread.join()
    assert target.read_bytes() == DATA


def test_nobody_answers(target):
    assert '(tried 2 times)' in refused(target, f'http://127.0.0.1:{free_port()}/file')


# Downloads that are interrupted.


def test_a_connection_that_ends_is_continued(server, target):
    url = server.give('file', Reply(DATA, cut=70_000), Reply(DATA, cut=130_000, reset=True), DATA)
    assert verified(target, url) == DATA
    assert server.starts[:2] == [None, 70_000]
    assert server.starts[2] > 70_000


def test_a_server_without_ranges_gives_all_of_it_again(server, target):
    url = server.give('file', Reply(DATA, cut=70_000), Reply(DATA, ranges=False))
    assert verified(target, url) == DATA
    assert server.starts == [None, 70_000]


def test_what_came_is_kept_for_the_next_time(server, target):
    url = server.give('file', Reply(DATA, cut=70_000), Reply(DATA, status=404), DATA)
    message = refused(target, url)
    assert '70,000 bytes of it are kept in file.bin.part' in message
    assert files_in(target.parent) == ['file.bin.part']
    assert verified(target, url) == DATA
    assert server.starts == [None, 70_000, 70_000]


def test_without_a_checksum_nothing_is_kept(server, target):
    url = server.give('file', Reply(DATA, cut=70_000))
    assert 'the connection ended after 70,000 of 300,000 bytes' in refused(target, url, sha256=None)
    assert files_in(target.parent) == []
    assert server.starts == [None, None]


def left_behind(target, data):
    """Leave what an interrupted download has written."""
    target.parent.mkdir(exist_ok=True)
    target.with_name('file.bin.part').write_bytes(data)


@pytest.mark.parametrize('count', [0, 1, 299_999])
def test_what_a_process_left_is_continued(server, target, count):
    left_behind(target, DATA[:count])
    assert verified(target, server.give('file', DATA)) == DATA
    assert server.starts == [count or None]


def test_a_part_that_is_complete_is_recognised(server, target):
    left_behind(target, DATA)
    assert verified(target, server.give('file', DATA)) == DATA
    assert server.starts == [300_000]


@pytest.mark.parametrize(
    'data', [bytes(100), bytes(300_000), bytes(400_000), DATA + b'more'], ids=['beginning', 'all', 'longer', 'more']
)
def test_a_part_of_another_file_is_dropped(server, target, data):
    left_behind(target, data)
    assert verified(target, server.give('file', DATA), attempts=1) == DATA
    assert server.starts == [len(data), None]


def test_without_a_checksum_a_part_is_dropped(server, target):
    left_behind(target, bytes(100))
    assert verified(target, server.give('file', DATA), None) == DATA
    assert server.starts == [None]


@pytest.mark.parametrize('given', ['bytes 0-299999/300000', 'bytes 200-299999/300000', '', None, 'nonsense'])
def test_a_part_that_was_not_asked_for_is_not_taken(server, target, given):
    left_behind(target, DATA[:100])
    url = server.give('file', Reply(DATA, headers={'Content-Range': given}), DATA)
    assert verified(target, url, attempts=1) == DATA
    assert server.starts == [100, None]


def test_a_part_that_ends_early_is_continued(server, target):
    """Some servers give less than they are asked for."""
    left_behind(target, DATA[:100])
    less = {'Content-Range': 'bytes 100-999/300000', 'Content-Length': '900'}
    assert verified(target, server.give('file', Reply(DATA[:1000], headers=less), DATA)) == DATA
    assert server.starts == [100, 1000]


def test_a_part_that_nobody_asked_for_is_not_the_file(server, target):
    part = Reply(DATA[:1000], status=206, headers={'Content-Range': 'bytes 0-999/300000'})
    assert verified(target, server.give('file', part, DATA), None) == DATA


def test_a_path_in_the_current_folder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.download_and_verify('file', server.give('file', DATA), SHA256) == 'file'
    assert config.copy_and_verify('copy', 'file', SHA256) == 'copy'
    assert files_in(tmp_path) == ['copy', 'file']


def test_a_length_that_is_too_large_does_no_harm(server, target):
    url = server.give('file', Reply(DATA, headers={'Content-Length': '300100'}), DATA)
    assert verified(target, url) == DATA


def test_an_answer_without_length_that_was_cut_is_tried_again(server, target):
    url = server.give('file', Reply(DATA, headers={'Content-Length': None}, cut=100), DATA)
    assert verified(target, url) == DATA


def test_chunks_that_end_early_are_continued(server, target):
    url = server.give('file', Reply(DATA, chunked=True, cut=2**17), DATA)
    assert verified(target, url) == DATA


# Arguments.


@pytest.mark.parametrize(
    ('url', 'error', 'says'),
    [
        ([], ValueError, 'at least one'),
        ('ftp://host/file', ValueError, "'ftp://host/file'"),
        ('file:///etc/passwd', ValueError, 'http:// or https://'),
        (['http://host/file', 3], TypeError, 'got 3'),
        (None, TypeError, 'got None'),
    ],
)
def test_wrong_addresses(target, url, error, says):
    with pytest.raises(error, match=says):
        config.download_and_verify(target, url, SHA256)


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'timeout': 0}, ValueError),
        ({'timeout': -1.0}, ValueError),
        ({'timeout': float('nan')}, ValueError),
        ({'timeout': None}, TypeError),
        ({'timeout': True}, TypeError),
        ({'backoff': -1}, ValueError),
        ({'backoff': '1'}, TypeError),
        ({'attempts': 0}, ValueError),
        ({'attempts': 1.5}, TypeError),
        ({'tries': 3}, TypeError),
    ],
)
def test_wrong_options(target, options, error):
    with pytest.raises(error, match=next(iter(options))):
        config.download_and_verify(target, 'http://127.0.0.1/', SHA256, **options)


def test_numbers_of_numpy_are_numbers(server, target):
    options = {'timeout': np.float32(2), 'attempts': np.int64(2), 'backoff': np.int64(0)}
    assert verified(target, server.give('file', DATA), **options) == DATA


# Progress.


def test_a_bar_shows_bytes_in_a_terminal(server, target, monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    verified(target, server.give('file', Reply(DATA, cut=70_000), DATA))
    shown = capsys.readouterr().err
    assert 'file.bin' in shown
    assert '293k/293k' in shown
    assert 'B/s' in shown


@pytest.mark.parametrize('progress', [True, False])
def test_nothing_is_shown_elsewhere(server, target, capsys, progress):
    verified(target, server.give('file', DATA), progress=progress)
    assert capsys.readouterr() == ('', '')
