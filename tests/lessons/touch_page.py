"""A web page with several views on it, for the tests in a browser."""

HEAD = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>several</title>'


def write_page(folder, *views):
    """The address of a page in this folder with the views one below the other."""
    file = folder / "page.html"
    file.write_text(f"{HEAD}<h1>Several of them</h1>{'<p>and</p>'.join(view.html() for view in views)}")
    return file.as_uri()
