import batchup

project = 'batchup'
author = 'The batchup developers'
copyright = '2026, The batchup developers'
version = release = batchup.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
myst_enable_extensions = ['deflist']
myst_heading_anchors = 3

html_theme = 'furo'
pygments_dark_style = 'github-dark'
html_title = f'batchup {release}'
html_copy_source = False

autodoc_member_order = 'bysource'
# Docstrings say the types in words, with shapes.
autodoc_typehints = 'none'
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
# Attributes as parameters: a line may name several.
napoleon_custom_sections = [('Attributes', 'params_style')]

# Names in single backticks become links where there is an entry for them.
default_role = 'py:obj'
nitpick_ignore_regex = [('py:obj', r'(?!batchup\.).*')]


def head_examples(app, what, name, obj, options, lines):
    """Give the examples that end a docstring a section: NumPy's style has no end of a section."""
    first = next((k for k, line in enumerate(lines) if line.startswith('>>>')), None)
    if first is not None and any(line and not line.strip('-') for line in lines[:first]):
        lines[first:first] = ['Examples', '--------']


def close_blocks(app, docname, source):
    """Take away the empty line that ends the output of a doctest before the fence."""
    source[0] = source[0].replace('\n\n```\n', '\n```\n')


def setup(app):
    app.connect('source-read', close_blocks)
    # Before napoleon, which has the default priority of 500.
    app.connect('autodoc-process-docstring', head_examples, priority=400)
