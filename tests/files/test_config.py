"""Where files are, checksums, and copies."""

import hashlib
import os

import numpy as np
import pytest

from batchup import config
from batchup.errors import ChecksumError, StorageError

from ..harness.fetched import DATA, OTHER, SHA256
from ..harness.homes import files_in, make_read_only

pytestmark = pytest.mark.usefixtures('home')

MD5 = hashlib.md5(DATA).hexdigest()


def configure(home, text):
    (home / '.batchup.cfg').write_text(text, encoding='utf-8')


# The folder.


def test_the_default_folder_is_in_the_home_folder(home):
    assert config.get_batchup_path() == str(home / '.batchup')
    assert (home / '.batchup').is_dir()


def test_the_variable_comes_before_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv('BATCHUP_HOME', str(tmp_path / 'a' / 'b'))
    assert config.get_batchup_path() == str(tmp_path / 'a' / 'b')
    assert (tmp_path / 'a' / 'b').is_dir()


def test_the_file_comes_before_the_variable(home, tmp_path, monkeypatch):
    monkeypatch.setenv('BATCHUP_HOME', str(tmp_path / 'variable'))
    configure(home, f'[paths]\ndata_dir = {tmp_path}/100% mine\n')
    assert config.get_batchup_path() == str(tmp_path / '100% mine')
    assert not (tmp_path / 'variable').exists()


@pytest.mark.parametrize('text', ['', '[paths]\n', '[paths]\ndata_dir =\n', '[others]\ndata_dir = /nowhere\n'])
def test_a_file_that_names_no_folder_leaves_the_choice(home, tmp_path, monkeypatch, text):
    monkeypatch.setenv('BATCHUP_HOME', str(tmp_path / 'variable'))
    configure(home, text)
    assert config.get_batchup_path() == str(tmp_path / 'variable')


@pytest.mark.parametrize('empty', ['', '  '])
def test_an_empty_variable_is_none(home, monkeypatch, empty):
    monkeypatch.setenv('BATCHUP_HOME', empty)
    assert config.get_batchup_path() == str(home / '.batchup')


@pytest.mark.parametrize('written', ['data/sets', '~/data/sets'])
def test_relative_folders_are_in_the_home_folder(home, monkeypatch, written):
    monkeypatch.setenv('BATCHUP_HOME', written)
    assert config.get_batchup_path() == str(home / 'data' / 'sets')


def test_a_mark_at_the_beginning_of_the_file_does_no_harm(home, tmp_path):
    configure(home, f'\ufeff[paths]\ndata_dir = {tmp_path}/données\n')
    assert config.get_batchup_path() == str(tmp_path / 'données')


@pytest.mark.parametrize('content', [b'data_dir = /a', b'[paths\ndata_dir = /a', b'[paths]\ndata_dir = \xff'])
def test_a_file_that_cannot_be_understood(home, content):
    (home / '.batchup.cfg').write_bytes(content)
    with pytest.raises(ValueError, match=r'cannot understand .*\.batchup\.cfg') as caught:
        config.get_batchup_path()
    assert 'it should look like:\n[paths]\ndata_dir = ' in str(caught.value)


def test_a_file_in_place_of_the_folder(home):
    (home / '.batchup').write_text('')
    with pytest.raises(StorageError, match=r'home/\.batchup: .*move it away'):
        config.get_batchup_path()


def test_a_file_above_the_folder(home, monkeypatch):
    (home / 'file').write_text('')
    monkeypatch.setenv('BATCHUP_HOME', 'file/data')
    with pytest.raises(StorageError, match=r'file/data.*move it away'):
        config.get_batchup_path()


def test_a_folder_that_cannot_be_made(mounted, monkeypatch):
    folder = mounted()
    make_read_only(folder)
    monkeypatch.setenv('BATCHUP_HOME', str(folder / 'data'))
    with pytest.raises(StorageError, match=r'make the folder writable, or choose another .*BATCHUP_HOME'):
        config.get_batchup_path()


def test_paths_of_data(home, tmp_path):
    assert config.get_data_dir() == str(home / '.batchup' / 'data')
    assert os.path.isdir(config.get_data_dir())
    assert config.get_data_path('file.npy') == str(home / '.batchup' / 'data' / 'file.npy')
    assert config.get_data_path(str(tmp_path / 'file.npy')) == str(tmp_path / 'file.npy')


# Checksums.


@pytest.mark.parametrize('data', [b'', DATA, bytes(2**20), bytes(2**20 + 1)])
def test_sha256(tmp_path, data):
    (tmp_path / 'file').write_bytes(data)
    assert config.compute_sha256(tmp_path / 'file') == hashlib.sha256(data).hexdigest()


def test_files_are_verified(source, tmp_path):
    assert config.verify_file(source, SHA256)
    assert config.verify_file(str(source), f' {SHA256.upper()}\n')
    assert config.verify_file(source, None)
    assert not config.verify_file(source, OTHER)
    assert not config.verify_file(tmp_path / 'missing', None)
    assert not config.verify_file(tmp_path, None)


@pytest.mark.parametrize(
    ('sha256', 'error'), [('abc', ValueError), ('g' * 64, ValueError), (MD5, ValueError), (b'0' * 64, TypeError)]
)
def test_wrong_checksums(source, sha256, error):
    with pytest.raises(error, match='sha256 must be'):
        config.verify_file(source, sha256)


# Copies.


def test_copies_are_verified(source, tmp_path):
    target = tmp_path / 'new' / 'copy.bin'
    assert config.copy_and_verify(target, source, SHA256) == str(target)
    assert target.read_bytes() == DATA
    assert files_in(target.parent) == ['copy.bin']


def test_copies_are_verified_by_md5(source, tmp_path):
    config.copy_and_verify(tmp_path / 'copy', source, None, md5=MD5)
    with pytest.raises(ChecksumError, match='has MD5'):
        config.copy_and_verify(tmp_path / 'other', source, None, md5='0' * 32)


def test_a_wrong_copy_leaves_what_was_there(source, tmp_path):
    target = tmp_path / 'folder' / 'copy.bin'
    target.parent.mkdir()
    target.write_bytes(b'before')
    with pytest.raises(ChecksumError, match=rf'source\.bin is another file: it has SHA-256 {SHA256}, expected .*0000'):
        config.copy_and_verify(target, source, OTHER)
    assert (files_in(target.parent), target.read_bytes()) == (['copy.bin'], b'before')


def test_the_right_copy_needs_no_source(source, tmp_path):
    assert config.copy_and_verify(source, tmp_path / 'missing', SHA256) == str(source)
    assert config.copy_and_verify(source, tmp_path / 'missing', None) == str(source)


def test_a_wrong_file_is_replaced(source, tmp_path):
    (tmp_path / 'copy').write_bytes(b'wrong')
    config.copy_and_verify(tmp_path / 'copy', source, SHA256)
    assert (tmp_path / 'copy').read_bytes() == DATA


@pytest.mark.parametrize('kind', ['missing', 'folder'])
def test_nothing_to_copy(tmp_path, kind):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(FileNotFoundError, match=f'{kind}: there is no such file'):
        config.copy_and_verify(tmp_path / 'copy', tmp_path / kind, SHA256)
    assert files_in(tmp_path) == []


def test_a_copy_on_a_full_disk(mounted, tmp_path):
    (tmp_path / 'large').write_bytes(bytes(2**21))
    folder = mounted(1024)
    with pytest.raises(StorageError, match=r'small/copy: No space left.* bytes are free there; make room'):
        config.copy_and_verify(folder / 'copy', tmp_path / 'large', None)
    assert files_in(folder) == []


def test_a_copy_into_a_read_only_folder(mounted, source):
    folder = mounted()
    make_read_only(folder)
    with pytest.raises(StorageError, match='make the folder writable'):
        config.copy_and_verify(folder / 'copy', source, SHA256)


def test_a_source_that_cannot_be_read_is_no_problem_of_the_target(source, tmp_path):
    """As for an administrator on a network folder: no permission, though the file is seen."""
    from batchup._files.placing import writing

    with pytest.raises(PermissionError) as caught, writing(tmp_path / 'copy'):
        raise PermissionError(13, 'Permission denied', str(source))
    assert not isinstance(caught.value, StorageError)


def test_copied_data_are_in_the_data_folder(home, source):
    path = config.copy_data('copy.bin', source, SHA256)
    assert path == str(home / '.batchup' / 'data' / 'copy.bin')
    assert config.verify_file(path, SHA256)


def test_a_read_only_folder_that_is_complete_will_do(mounted, source, monkeypatch):
    folder = mounted()
    monkeypatch.setenv('BATCHUP_HOME', str(folder))
    path = config.copy_data('copy.bin', source, SHA256)
    make_read_only(folder)
    assert config.copy_data('copy.bin', source, SHA256) == path
    assert np.fromfile(path, np.uint8).tobytes() == DATA
