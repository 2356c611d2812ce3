"""`streamer acls`: the smallest set of permissions that each kind of client needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json

if TYPE_CHECKING:
    from streamer.kafka.acls import Role

app = new_app()


@app.command()
def acls(
    ctx: typer.Context,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", metavar="ROLE[=PRINCIPAL]", help="Only this role, or as this principal; repeatable."
        ),
    ] = None,
    _: Annotated[bool, typer.Option("--print", help="Print them; nothing else is done.")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a permission.")] = False,
) -> None:
    """Print commands for Kafka's kafka-acls.sh that allow each role what it needs, and nothing else.

    Roles: worker, producer, consumer, server, viewer, linker, replay, admin; as principals
    User:streamer-worker and so on.
    """
    from streamer.kafka.acls import ROLES, acls_of, as_commands

    settings = ctx.obj.settings()
    wanted = _principals(role or list(ROLES))
    for name, principal in wanted.items():
        allowed = acls_of(name, settings)
        if json:
            for acl in allowed:
                print_json({"role": name, "principal": principal, **vars(acl)})
            continue
        print(f"# {name}")
        for command in as_commands(allowed, principal, settings.kafka.bootstrap_servers):
            print(command)


def _principals(roles: list[str]) -> dict[Role, str]:
    from streamer.errors import UsageError
    from streamer.kafka.acls import ROLES

    principals = {}
    for given in roles:
        wanted, _, principal = given.partition("=")
        role = next((role for role in ROLES if role == wanted), None)
        if role is None:
            raise UsageError(f"--role {wanted}: expected one of {', '.join(ROLES)}")
        principals[role] = principal or f"User:streamer-{role}"
    return principals
