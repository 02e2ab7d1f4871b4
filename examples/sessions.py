"""Web sessions: unmodified Flask-Session, which asks for a Redis, on a cluster that has no primary to lose.

Sessions are written at `quorum`, so whoever answers the next request of a user, through whatever node, sees the last
one. Flask-Session uses GET, SET with EX, and DEL: all of it works. Two requests of one user at the same time write
the whole session each, and the later one stays, here as with Redis.

    .venv/bin/pip install Flask Flask-Session
    .venv/bin/python examples/sessions.py
"""

from any_node import NODES, pause, redis_of
from flask import Flask, session
from flask_session import Session


def web_server(nodes: list[str]) -> Flask:
    app = Flask(__name__)
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis_of(nodes), SESSION_KEY_PREFIX="example:session:")
    Session(app)

    @app.get("/login/<user>")
    def login(user: str) -> str:
        session["user"] = user
        return f"hello {user}"

    @app.get("/")
    def home() -> str:
        if "user" not in session:
            return "who are you?"
        session["visits"] = session.get("visits", 0) + 1
        return f"{session['user']}, visit {session['visits']}"

    @app.get("/logout")
    def logout() -> str:
        session.clear()
        return "goodbye"

    return app


def main() -> None:
    # Two web servers, each with another node first. The browser keeps one cookie and is sent to either.
    one, other = web_server(NODES).test_client(), web_server(NODES[::-1]).test_client()

    def visit(server: int, path: str) -> None:
        browser = (one, other)[server]
        reply = browser.get(path)
        cookie = browser.get_cookie("session")
        if cookie is not None:
            (other, one)[server].set_cookie("session", cookie.value)
        print(f"web server {server + 1}, {path}: {reply.text}")
        assert reply.status_code == 200

    visit(0, "/")
    visit(0, "/login/ada")
    visit(0, "/")
    visit(1, "/")
    pause("\nNow kill a node (`kill -9` a pid that `make up` printed), or don't")
    visit(0, "/")
    visit(1, "/")
    visit(1, "/logout")
    visit(0, "/")


if __name__ == "__main__":
    main()
