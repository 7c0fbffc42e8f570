"""Parts of the playbook.

- ``document``: the YAML text as plain values, and the line of each;
- ``templates``: the expressions in it, and ``filters`` what these may use;
- ``parameters``: what each type of step takes;
- ``model``: what a playbook is, once it has been read;
- ``reading``: the whole of it, checked before anything is done;
- ``work``: what the steps do that do something;
- ``playing``: the order in which they are done.
"""
