from datetime import timedelta

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from catalog.models import Author, Book, BookInstance

User = get_user_model()


class PublicPagesTests(TestCase):
    def test_home_counts_and_newest(self):
        response = self.client.get(reverse("catalog:index"))
        counts = dict(response.context["counts"])
        self.assertEqual(counts["Books"], 14)
        self.assertEqual(counts["Authors"], 10)
        self.assertEqual(counts["Copies"], BookInstance.objects.count())
        self.assertLess(counts["Available now"], counts["Copies"])
        self.assertContains(response, "The War of the Worlds")
        genres = [genre.name for genre in response.context["genres"]]
        self.assertEqual(genres, sorted(genres))

    def test_home_of_an_empty_library(self):
        Book.objects.all().delete()
        Author.objects.all().delete()
        self.assertEqual(self.client.get(reverse("catalog:index")).status_code, 200)
        self.assertEqual(self.client.get(reverse("catalog:book-list")).status_code, 200)
        self.assertContains(self.client.get(reverse("catalog:author-list")), "No authors yet")

    def test_book(self):
        book = Book.objects.get(title="Moby-Dick")
        response = self.client.get(book.get_absolute_url())
        self.assertContains(response, "Herman Melville")
        self.assertContains(response, "Adventure")
        self.assertContains(response, "Available", count=2)
        self.assertNotContains(response, "Upload cover")

    def test_author_and_books(self):
        author = Author.objects.get(last_name="Verne")
        response = self.client.get(author.get_absolute_url())
        for book in author.books.all():
            self.assertContains(response, book.get_absolute_url())

    def test_no_such_book(self):
        response = self.client.get(reverse("catalog:book-detail", args=[0]))
        self.assertContains(response, "Nothing on this shelf", status_code=404)

    def test_text_is_escaped(self):
        Book.objects.create(title="<script>", author=Author.objects.first())
        response = self.client.get(reverse("catalog:book-list"), {"q": "<script>"})
        self.assertContains(response, "&lt;script&gt;")
        self.assertNotContains(response, "<script>")


class PaginationTests(TestCase):
    def get(self, name="book-list", **query):
        return self.client.get(reverse(f"catalog:{name}"), query)

    def test_every_book_is_on_one_page(self):
        first, second = self.get(), self.get(page=2)
        self.assertEqual(len(first.context["book_list"]), 8)
        self.assertEqual(len(second.context["book_list"]), 6)
        shown = {*first.context["book_list"], *second.context["book_list"]}
        self.assertEqual(shown, set(Book.objects.all()))

    def test_links(self):
        self.assertContains(self.get(), 'href="?page=2" rel="next"')
        self.assertNotContains(self.get(), 'rel="prev"')
        self.assertContains(self.get(page=2), 'href="?page=1" rel="prev"')
        self.assertNotContains(self.get(page=2), 'rel="next"')

    def test_beyond_the_last_page(self):
        self.assertEqual(self.get(page=3).status_code, 404)

    def test_links_keep_the_search(self):
        author = Author.objects.get(last_name="Wells")
        for number in range(10):
            Book.objects.create(title=f"Letters & notes {number}", author=author)
        self.assertContains(self.get(q="wells &"), 'href="?q=wells+%26&amp;page=2"')

    def test_authors(self):
        Author.objects.create(last_name="Zola")
        self.assertEqual(len(self.get("author-list").context["author_list"]), 10)
        self.assertContains(self.get("author-list", page=2), "Zola")


class SearchTests(TestCase):
    def titles(self, **query):
        response = self.client.get(reverse("catalog:book-list"), query)
        return {book.title for book in response.context["book_list"]}

    def test_title_or_author_in_any_case(self):
        self.assertEqual(self.titles(q="moby"), {"Moby-Dick"})
        self.assertEqual(self.titles(q="AUSTEN"), {"Emma", "Pride and Prejudice"})
        self.assertEqual(self.titles(q="wells time"), {"The Time Machine"})
        self.assertEqual(self.titles(q="no such words"), set())

    def test_genre(self):
        self.assertEqual(self.titles(genre="gothic"), {"Dracula", "Frankenstein", "Jane Eyre"})
        self.assertEqual(self.titles(genre="gothic", q="mary"), {"Frankenstein"})

    def test_a_nul_is_no_error(self):
        self.assertEqual(self.titles(q="moby\0", genre="\0"), {"Moby-Dick"})


class LoanTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.reader = User.objects.create_user("reader", password="a quiet corner")
        cls.other = User.objects.create_user("other")
        for title, borrower in (("Emma", cls.reader), ("Dracula", cls.other)):
            BookInstance.objects.create(
                book=Book.objects.get(title=title),
                status=BookInstance.Status.ON_LOAN,
                borrower=borrower,
                due_back=timezone.localdate() - timedelta(days=1),
            )

    def test_a_visitor_logs_in_first(self):
        page = reverse("catalog:my-loans")
        login = f"{reverse('login')}?next={page}"
        self.assertRedirects(self.client.get(page), login)
        response = self.client.post(login, {"username": "reader", "password": "a quiet corner"})
        self.assertRedirects(response, page)
        self.assertRedirects(self.client.post(reverse("logout")), reverse("catalog:index"))

    def test_a_wrong_password(self):
        response = self.client.post(reverse("login"), {"username": "reader", "password": "?"})
        self.assertContains(response, "correct username and password")

    def test_readers_see_their_own_loans(self):
        self.client.force_login(self.reader)
        response = self.client.get(reverse("catalog:my-loans"))
        self.assertContains(response, "Emma")
        self.assertContains(response, "status-late")
        self.assertNotContains(response, "Dracula")

    def test_all_loans_need_the_permission(self):
        self.client.force_login(self.reader)
        page = reverse("catalog:all-loans")
        self.assertContains(self.client.get(page), "Not for this account", status_code=403)
        self.reader.user_permissions.add(Permission.objects.get(codename="view_all_loans"))
        self.assertContains(self.client.get(page), "other")


class AdminTests(TestCase):
    def test_lists_and_forms_open(self):
        self.client.force_login(User.objects.create_superuser("boss"))
        for model in ("author", "book", "bookinstance", "genre", "language"):
            with self.subTest(model):
                page = reverse(f"admin:catalog_{model}_changelist")
                self.assertEqual(self.client.get(page).status_code, 200)
                page = reverse(f"admin:catalog_{model}_add")
                self.assertEqual(self.client.get(page).status_code, 200)
        self.assertContains(self.client.get("/admin/catalog/book/", {"q": "verne"}), "Vingt mille")
        book = Book.objects.get(title="Emma")
        page = reverse("admin:catalog_book_change", args=[book.pk])
        self.assertContains(self.client.get(page), "Library edition")
