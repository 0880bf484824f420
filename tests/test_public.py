"""Every public name: what users may import, and the members that the API pages describe."""

import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import batchup

# What users may import, by module.
PUBLIC = {
    'batchup': """
        AbstractDataSource AbstractSampler ArrayDataSource CallableDataSource ChoiceDataSource
        CompositeDataSource ConcatDataSource IteratorDataSource MapDataSource RandomAccessDataSource
        StandardSampler SubsetSampler WeightedSampler WeightedSubsetSampler WorkerAutoPool WorkerExecutorPool
        WorkerProcessPool WorkerThreadPool __version__ arrays batch_map_concat batch_map_mean coerce_data_source
        config data_source datasets empty errors image padding sampling splits work_pool
    """,
    'batchup.arrays': 'H5Array ParquetArray empty',
    'batchup.config': """
        compute_sha256 copy_and_verify copy_data download download_and_verify download_data get_batchup_path
        get_data_dir get_data_path verify_file
    """,
    'batchup.data_source': """
        AbstractDataSource ArrayDataSource CallableDataSource ChoiceBatch ChoiceDataSource CompositeDataSource
        ConcatDataSource IteratorDataSource Loader MapDataSource Part Phase Plan RandomAccessDataSource Request Run
        Stream StreamStatistics Sums Verdict WorkerStatistics batch_map_concat batch_map_mean coerce_data_source merge
    """,
    'batchup.datasets': 'cifar10 cifar100 dataset digits fashion_mnist mnist stl svhn usps',
    'batchup.datasets.cifar10': 'CIFAR10 delete_cache fetch_cifar10',
    'batchup.datasets.cifar100': 'CIFAR100 delete_cache fetch_cifar100',
    'batchup.datasets.dataset': """
        CopySourceFile DownloadSourceFile ExistingSourceFile FetchedDataset SourceFile delete_dataset_cache
        fetch_and_convert_dataset
    """,
    'batchup.datasets.digits': 'Digits',
    'batchup.datasets.fashion_mnist': 'FashionMNIST delete_cache fetch_fashion_mnist',
    'batchup.datasets.mnist': 'MNIST delete_cache fetch_mnist',
    'batchup.datasets.stl': 'STL delete_cache fetch_stl',
    'batchup.datasets.svhn': 'SVHN SVHNExtra delete_cache fetch_svhn fetch_svhn_extra',
    'batchup.datasets.usps': 'USPS delete_cache fetch_usps',
    'batchup.errors': """
        ChecksumError DatasetError DatasetFormatError DownloadError EndOfPlanError MissingExtraError
        NonFiniteError ReplayError SampleIndexError StateMismatchError StorageError WorkerLostError
        WorkerPoolError WorkerTimeoutError
    """,
    'batchup.image': '',
    'batchup.image.utils': 'ImageArrayUInt8ToFloat32',
    'batchup.padding': 'RaggedArray pad_batch',
    'batchup.sampling': """
        AbstractSampler BlockShuffle BucketSampler ComputedShuffle FullShuffle GroupSampler Order PKSampler
        QuotaSampler StandardSampler SubsetSampler WeightedSampler WeightedSubsetSampler num_batches
    """,
    'batchup.splits': 'group_k_fold k_fold split stratified_k_fold time_series_split time_split train_test_split',
    'batchup.work_pool': """
        AutoDataSource ParallelDataSource RayExecutor SharedConstant WorkStream WorkerAutoPool WorkerExecutorPool
        WorkerPool WorkerProcessPool WorkerThreadPool
    """,
}

# The members that the pages describe, by class.
MEMBERS = {
    'batchup.arrays.H5Array': 'dataset ndim',
    'batchup.arrays.ParquetArray': 'ndim',
    'batchup.data_source.AbstractDataSource': """
        batch batch_iterator batch_map_concat batch_map_mean is_random_access loader map map_samples num_batches
        num_samples replay
    """,
    'batchup.data_source.ArrayDataSource': 'samples_by_indices_nomapping',
    'batchup.data_source.CallableDataSource': 'batch_iterator num_samples',
    'batchup.data_source.ChoiceDataSource': """
        batch_indices_iterator batch_iterator is_random_access num_samples plan samples_by_indices
        samples_by_indices_nomapping
    """,
    'batchup.data_source.CompositeDataSource': """
        batch_indices_iterator batch_iterator is_random_access num_samples plan samples_by_indices
        samples_by_indices_nomapping
    """,
    'batchup.data_source.ConcatDataSource': 'samples_by_indices_nomapping',
    'batchup.data_source.IteratorDataSource': 'batch_iterator num_samples',
    'batchup.data_source.MapDataSource': """
        batch_indices_iterator batch_iterator is_random_access num_samples plan samples_by_indices
        samples_by_indices_nomapping
    """,
    'batchup.data_source.Loader': """
        batch_size close epoch length load_state_dict position set_epoch source state_dict
    """,
    'batchup.data_source.Phase': 'CLOSED FRESH RUNNING',
    'batchup.data_source.Plan': 'index_batches window',
    'batchup.data_source.RandomAccessDataSource': """
        batch_iterator is_random_access num_samples samples_by_indices samples_by_indices_nomapping subset
    """,
    'batchup.data_source.Request': 'batch end split',
    'batchup.data_source.Stream': 'close length load_state_dict phase position skip state_dict statistics verdict',
    'batchup.data_source.Sums': 'mean',
    'batchup.datasets.dataset.FetchedDataset': 'delete path source_folder',
    'batchup.datasets.digits.Digits': 'test_source train_source val_source',
    'batchup.datasets.mnist.MNIST': 'fetch test_source train_source val_source',
    'batchup.datasets.stl.STL': 'fetch unl_source',
    'batchup.datasets.svhn.SVHNExtra': 'fetch source',
    'batchup.padding.RaggedArray': 'dtype from_list lengths',
    'batchup.sampling.AbstractSampler': """
        in_order_indices_batch_iterator map_indices num_indices_generated plan shuffled_indices_batch_iterator
        subset
    """,
    'batchup.sampling.BlockShuffle': 'order',
    'batchup.sampling.BucketSampler': 'num_indices_generated',
    'batchup.sampling.ComputedShuffle': 'order',
    'batchup.sampling.FullShuffle': 'order',
    'batchup.sampling.GroupSampler': 'num_indices_generated',
    'batchup.sampling.Order': '__call__',
    'batchup.sampling.StandardSampler': 'num_indices_generated subset',
    'batchup.sampling.SubsetSampler': 'map_indices num_indices_generated subset',
    'batchup.sampling.WeightedSampler': 'class_balancing_sample_weights class_balancing_sampler subset weights',
    'batchup.sampling.WeightedSubsetSampler': 'class_balancing_sampler map_indices sub_weights subset',
    'batchup.work_pool.AutoDataSource': 'decided left_out',
    'batchup.work_pool.ParallelDataSource': 'batch_iterator num_samples',
    'batchup.work_pool.RayExecutor': 'submit',
    'batchup.work_pool.WorkStream': 'retrieve retrieve_iter',
    'batchup.work_pool.WorkerAutoPool': 'parallel_data_source',
    'batchup.work_pool.WorkerPool': 'close parallel_data_source shared_constant work_stream',
}

# Sphinx and its extensions warn of each other.
pytestmark = pytest.mark.filterwarnings('ignore::PendingDeprecationWarning')

DOCS = Path(__file__).parent.parent / 'docs'

# Directives that describe a name, on a page.
DESCRIBING = re.compile(r'\b(auto\w+::|py:)')


def public_modules():
    found = pkgutil.walk_packages(batchup.__path__, 'batchup.')
    return ['batchup', *(module.name for module in found if '._' not in module.name)]


def offered(module):
    """Return the public names of a module: those in `__all__`, or else what it defines itself."""
    own = [name for name, value in vars(module).items() if getattr(value, '__module__', '') == module.__name__]
    return set(getattr(module, '__all__', [name for name in own if not name.startswith('_')]))


def test_the_public_modules_are_listed():
    assert public_modules() == list(PUBLIC)


@pytest.mark.parametrize('name', PUBLIC)
def test_a_module_offers_what_is_listed(name):
    assert offered(importlib.import_module(name)) == set(PUBLIC[name].split())


@pytest.fixture(scope='module')
def described(tmp_path_factory):
    """The full names that the pages describe, from a build, without output, of those that describe any."""
    from sphinx.application import Sphinx

    folder = tmp_path_factory.mktemp('docs')
    others = {str(page.relative_to(DOCS)) for page in DOCS.rglob('*.md') if not DESCRIBING.search(page.read_text())}
    settings = {'exclude_patterns': ['_build', *others - {'index.md'}]}
    app = Sphinx(DOCS, DOCS, folder, folder, 'dummy', settings, status=None, warning=io.StringIO())
    app.build(force_all=True)
    entries = app.env.domaindata['py']['objects']
    return {name for name, entry in entries.items() if not entry.aliased and name not in PUBLIC}


def test_the_pages_describe_public_names_only(described):
    names = {f'{module}.{name}' for module, names in PUBLIC.items() for name in names.split()}
    assert described - names == {f'{kind}.{name}' for kind, names in MEMBERS.items() for name in names.split()}


FACADES = ['arrays', 'config', 'data_source', 'errors', 'padding', 'sampling', 'splits', 'work_pool']


@pytest.mark.parametrize('facade', FACADES)
def test_the_pages_describe_every_name_of_a_facade(described, facade):
    assert {f'batchup.{facade}.{name}' for name in PUBLIC[f'batchup.{facade}'].split()} <= described
