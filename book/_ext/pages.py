"""A Sphinx extension: what the theme cannot be told by settings."""

import inspect
import re


def edit_the_source(app, pagename, templatename, context, doctree):
    """Let the edit button of a chapter lead to its .py, which is the source, not to the .ipynb made from it."""
    if not pagename.startswith("notebooks/"):
        return
    buttons = list(context.get("header_buttons", []))
    while buttons:
        button = buttons.pop()
        buttons.extend(button.get("buttons", []))
        if button.get("label") == "source-edit-button":
            button["url"] = button["url"].removesuffix(".ipynb") + ".py"


def drop_thebe(app, config):
    """Let sphinx-thebe add nothing: this book does not use it, and each page would carry its script's address twice."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files[:] = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]


def leave_out_fields(app, what, name, obj, skip, options):
    """List no fields among the methods: a dataclass's whose default is a function or a class, a named tuple's."""
    taken = (inspect.isfunction(obj) or inspect.isclass(obj)) and "." not in obj.__qualname__
    return True if what == "class" and (taken or type(obj).__name__ == "_tuplegetter") else None


def name_the_defaults(app, what, name, obj, options, signature, returns):
    """Show a function or a class that is a field's default by its name, not as Python prints the object."""
    return signature and re.sub(r"<(?:function|class) '?(?:\w+\.)*(\w+)'?(?: at 0x\w+)?>", r"\1", signature), returns


def setup(app):
    app.connect("autodoc-skip-member", leave_out_fields)
    app.connect("autodoc-process-signature", name_the_defaults)
    app.connect("config-inited", drop_thebe)
    app.connect("html-page-context", edit_the_source, priority=900)  # after the theme has made its buttons
    return {"parallel_read_safe": True, "parallel_write_safe": True}
