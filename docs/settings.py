"""Makes the API reference say what each field of `Config` is: its text stands in the call that defines it."""

import ast

import griffe


class Settings(griffe.Extension):
    """Reads the calls of `config._setting`."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs) -> None:
        """Gives a setting its default as value and its text as docstring."""
        if isinstance(attr.value, griffe.ExprCall) and str(attr.value.function) == "_setting":
            default, _, text = attr.value.arguments[:3]
            attr.value, attr.docstring = (
                default,
                griffe.Docstring(ast.literal_eval(str(text)), parent=attr),
            )
