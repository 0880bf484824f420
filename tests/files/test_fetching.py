"""Data sets that are fetched and converted once, from files of every kind."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from batchup.datasets.dataset import (
    CopySourceFile,
    DownloadSourceFile,
    ExistingSourceFile,
    delete_dataset_cache,
    fetch_and_convert_dataset,
)
from batchup.errors import ChecksumError, DatasetFormatError, DownloadError, StorageError

from ..harness.fetched import DATA, OTHER, SHA256, dataset
from ..harness.homes import files_in
from ..harness.servers import Reply

pytestmark = pytest.mark.usefixtures('home')


def fail(*paths):
    raise ZeroDivisionError('of the converter')


# Files that are there.


def test_a_file_is_converted_once(source, data):
    fetch = dataset(ExistingSourceFile(source))
    assert fetch() == fetch() == str(data / 'copy.bin')
    assert fetch.calls == [[str(source)]]
    assert (data / 'copy.bin').read_bytes() == source.read_bytes() == DATA
    assert files_in(data) == ['copy.bin']


def test_a_folder_can_be_the_target(source, data):
    def convert(source_path, target_path):
        Path(target_path).mkdir()
        shutil.copy(source_path, target_path)

    assert dataset(ExistingSourceFile(source), convert=convert, target='a/folder')() == str(data / 'a' / 'folder')
    assert files_in(data) == ['a/folder/source.bin']


def test_the_target_may_be_anywhere(source, tmp_path):
    target = tmp_path / 'elsewhere' / 'copy.bin'
    assert dataset(ExistingSourceFile(source), target=str(target))() == str(target)


def test_the_suffix_of_the_target_stays_while_it_is_written(source, data):
    dataset(ExistingSourceFile(source), convert=lambda source, target: np.save(target, [1, 2]), target='a.npy')()
    assert files_in(data) == ['a.npy']


def test_files_come_in_order(source, tmp_path, server):
    (tmp_path / 'second').write_bytes(b'2')
    files = [ExistingSourceFile(tmp_path / 'second'), DownloadSourceFile('first', server.give('first', b'1'))]
    seen = []
    dataset(*files, convert=lambda *paths: (seen.extend(paths[:2]), Path(paths[2]).touch()))()
    assert [Path(path).name for path in seen] == ['second', 'first']


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'there is no file .*missing'):
        dataset(ExistingSourceFile(tmp_path / 'missing'))()


def test_another_file_than_expected(source, data):
    with pytest.raises(ChecksumError, match=rf'source\.bin is another file: it has SHA-256 {SHA256}, expected'):
        dataset(ExistingSourceFile(source, OTHER))()
    assert source.exists()
    assert files_in(data) == []


# Downloads.


def test_a_download_is_deleted_when_it_is_converted(server, data):
    fetch = dataset(DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256))
    assert Path(fetch()).read_bytes() == DATA
    assert files_in(data) == ['copy.bin']
    assert len(server.requests) == 1


def test_mirrors_are_tried_in_order(server, data):
    server.give('second/a%20file', DATA)
    fetch = dataset(DownloadSourceFile('a file', base_url=[f'{server.url}/first', f'{server.url}/second/']))
    assert Path(fetch()).read_bytes() == DATA
    assert [asked.path for asked in server.requests] == ['/first/a%20file', '/second/a%20file']


def test_a_file_that_a_user_has_placed_is_used_and_stays(server, data):
    fetch = dataset(DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256))
    fetch.source_folder.mkdir(parents=True)
    (fetch.source_folder / 'file').write_bytes(DATA)
    fetch()
    assert server.requests == []
    assert files_in(data) == ['copy.bin', 'downloads/copy.bin/file']


def test_a_wrong_file_that_a_user_has_placed_is_named(server):
    fetch = dataset(DownloadSourceFile('file', f'{server.url}/missing', sha256=SHA256))
    fetch.source_folder.mkdir(parents=True)
    (fetch.source_folder / 'file').write_bytes(b'wrong')
    with pytest.raises(DownloadError, match=f'is another one, with SHA-256 {hashlib.sha256(b"wrong").hexdigest()}'):
        fetch()


def test_a_failure_says_how_to_place_the_file(server, data):
    with pytest.raises(DownloadError) as caught:
        dataset(DownloadSourceFile('file', f'{server.url}/missing', sha256=SHA256))()
    assert f'by hand at {data}/downloads/copy.bin/file, with SHA-256 {SHA256}' in str(caught.value)
    assert files_in(data) == []
    assert not (data / 'downloads' / 'copy.bin').exists()


def test_files_placed_as_the_error_says_will_do(server, data):
    fetch = dataset(DownloadSourceFile('file', f'{server.url}/missing', sha256=SHA256))
    with pytest.raises(DownloadError):
        fetch()
    place = data / 'downloads' / 'copy.bin' / 'file'
    place.parent.mkdir()
    place.write_bytes(DATA)
    assert Path(fetch()).read_bytes() == DATA


def test_what_was_downloaded_before_a_failure_is_used_again(server, data):
    first = DownloadSourceFile('first', server.give('first', DATA), sha256=SHA256)
    second = DownloadSourceFile('second', server.give('second', Reply(status=404), DATA), sha256=SHA256)
    fetch = dataset(first, second, convert=lambda first, second, target: shutil.copyfile(first, target))
    with pytest.raises(DownloadError):
        fetch()
    fetch()
    assert [asked.path for asked in server.requests] == ['/first', '/second', '/second']
    assert files_in(data) == ['copy.bin']


def test_bad_names_and_addresses():
    for name in ('', '.', '..', 'a/b', '/a'):
        with pytest.raises(ValueError, match='a name without folders'):
            DownloadSourceFile(name, 'http://host/file')
    with pytest.raises(TypeError, match='filename must be a string, got int'):
        DownloadSourceFile(3, 'http://host/file')
    with pytest.raises(ValueError, match='exactly one of url and base_url'):
        DownloadSourceFile('file')
    with pytest.raises(ValueError, match='exactly one of url and base_url'):
        DownloadSourceFile('file', 'http://host/file', 'http://host')
    with pytest.raises(ValueError, match='http'):
        DownloadSourceFile('file', base_url='host')


# Copies.


def test_a_copy_is_deleted_when_it_is_converted(source, data):
    fetch = dataset(CopySourceFile('file', source, sha256=SHA256))
    fetch()
    assert fetch.calls == [[str(data / 'downloads' / 'copy.bin' / 'file')]]
    assert files_in(data) == ['copy.bin']
    assert source.read_bytes() == DATA


def test_the_user_says_where_the_file_is(source, tmp_path):
    (tmp_path / 'default').write_bytes(b'default')
    fetch = dataset(CopySourceFile('file', tmp_path / 'default', arg_name='place'))
    assert Path(fetch(place=source)).read_bytes() == DATA
    fetch.delete()
    assert Path(fetch()).read_bytes() == b'default'


def test_a_file_that_must_be_given():
    with pytest.raises(TypeError, match='file is needed: pass place=, the path of the file'):
        dataset(CopySourceFile('file', arg_name='place'))()


def test_an_unknown_keyword(source):
    fetch = dataset(CopySourceFile('file', source, arg_name='place'))
    with pytest.raises(TypeError, match="unexpected keyword argument 'plcae'; it takes place"):
        fetch(plcae=source)
    with pytest.raises(TypeError, match='it takes none'):
        dataset(ExistingSourceFile(source))(place=source)


def test_a_copy_of_nothing():
    with pytest.raises(ValueError, match='source_path or arg_name is needed'):
        CopySourceFile('file')


def test_a_copy_of_a_missing_file_leaves_nothing(tmp_path, data):
    with pytest.raises(FileNotFoundError, match='missing: there is no such file'):
        dataset(CopySourceFile('file', tmp_path / 'missing'))()
    assert files_in(data) == []


def test_a_copy_of_another_file(source, data):
    with pytest.raises(ChecksumError, match='is another file'):
        dataset(CopySourceFile('file', source, sha256=OTHER))()
    assert files_in(data) == []


def test_a_file_that_is_already_where_its_copy_would_be(data):
    fetch = dataset(CopySourceFile('file', arg_name='place'))
    place = fetch.source_folder / 'file'
    place.parent.mkdir(parents=True)
    place.write_bytes(DATA)
    assert Path(fetch(place=place)).read_bytes() == DATA
    assert place.read_bytes() == DATA


def test_the_newest_file_is_copied(source, data):
    fetch = dataset(CopySourceFile('file', source))
    fetch.source_folder.mkdir(parents=True)
    (fetch.source_folder / 'file').write_bytes(b'old')
    assert Path(fetch()).read_bytes() == DATA


# Conversions that fail.


def test_a_failed_conversion_leaves_the_verified_download(server, data):
    files = DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256)
    with pytest.raises(ZeroDivisionError):
        dataset(files, convert=fail)()
    assert not (data / 'copy.bin').exists()
    assert Path(dataset(files)()).read_bytes() == DATA
    assert len(server.requests) == 1
    assert files_in(data) == ['copy.bin']


def test_a_failed_conversion_does_not_leave_a_download_that_nobody_verified(server, data):
    files = DownloadSourceFile('file', server.give('file', b'damaged', DATA))
    with pytest.raises(ZeroDivisionError):
        dataset(files, convert=fail)()
    assert files_in(data) == []
    assert Path(dataset(files)()).read_bytes() == DATA


def test_a_failed_conversion_leaves_what_the_user_has_placed(source, data):
    fetch = dataset(DownloadSourceFile('file', 'http://host/file'), convert=fail)
    fetch.source_folder.mkdir(parents=True)
    (fetch.source_folder / 'file').write_bytes(DATA)
    with pytest.raises(ZeroDivisionError):
        fetch()
    assert files_in(data) == ['downloads/copy.bin/file']


def test_a_file_put_in_place_of_a_download_stays(server, data):
    files = DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256)
    with pytest.raises(ZeroDivisionError):
        dataset(files, convert=fail)()
    place = data / 'downloads' / 'copy.bin' / 'file'
    place.unlink()
    place.write_bytes(DATA)
    dataset(files)()
    assert 'downloads/copy.bin/file' in files_in(data)


def test_half_a_conversion_is_not_seen(source, data):
    def half(source_path, target_path):
        Path(target_path).write_bytes(b'half')
        fail()

    with pytest.raises(ZeroDivisionError):
        dataset(ExistingSourceFile(source), convert=half)()
    assert files_in(data) == []


def test_a_conversion_that_writes_nothing(source, data):
    with pytest.raises(DatasetFormatError, match='fetch has written nothing at the target path'):
        dataset(ExistingSourceFile(source), convert=lambda *paths: None)()
    assert files_in(data) == []


def test_damage_says_how_to_place_the_file(server, data):
    def refuse(*paths):
        raise DatasetFormatError('it is damaged')

    with pytest.raises(DatasetFormatError) as caught:
        dataset(DownloadSourceFile('file', server.give('file', DATA), sha256=SHA256), convert=refuse)()
    place = f'{data}/downloads/copy.bin/file'
    assert str(caught.value) == f'it is damaged\nOr place the file by hand at {place}, with SHA-256 {SHA256}.'


def test_an_unreadable_file_is_no_problem_of_the_disk(source):
    def refuse(source_path, target_path):
        raise PermissionError(13, 'Permission denied', source_path)

    with pytest.raises(PermissionError) as caught:
        dataset(ExistingSourceFile(source), convert=refuse)()
    assert not isinstance(caught.value, StorageError)


def test_what_is_missing_is_said_before_anything_is_fetched(server):
    def prepare():
        raise ImportError('a library')

    with pytest.raises(ImportError, match='a library'):
        dataset(DownloadSourceFile('file', server.give('file', DATA)), prepare=prepare)()
    assert server.requests == []


def test_wrong_declarations(source):
    with pytest.raises(TypeError, match='source_files must be source files, got str'):
        dataset('file')
    with pytest.raises(TypeError, match='target_filename must be a string, got NoneType'):
        dataset(target=None)
    for target in ('', '.', './', '..', '../a', 'a/../../b', '/'):
        with pytest.raises(ValueError, match='must name a file or folder'):
            dataset(target=target)


def test_it_looks_like_the_function(source):
    @fetch_and_convert_dataset([ExistingSourceFile(source)], 'copy.bin')
    def fetch_squares(source_paths, target_path):
        """Fetch squares."""

    assert (fetch_squares.__name__, fetch_squares.__doc__) == ('fetch_squares', 'Fetch squares.')


# Deleting.


def test_what_was_fetched_is_deleted(source, data):
    fetch = dataset(ExistingSourceFile(source))
    fetch()
    fetch.delete()
    assert files_in(data) == []
    assert source.exists()
    fetch()
    assert len(fetch.calls) == 2


def test_several_are_deleted_with_what_was_left_behind(data):
    for path in ('a/file', 'b.npy', 'downloads/a/file.part', 'b.npy.partial/b.npy', 'c'):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(b'')
    delete_dataset_cache('a', 'b.npy', 'missing')
    assert files_in(data) == ['c']


@pytest.mark.parametrize('name', ['', '.', '..', '../data', '/'])
def test_no_other_folders_are_deleted(data, name):
    with pytest.raises(ValueError, match='must name a file or folder'):
        delete_dataset_cache(name)
