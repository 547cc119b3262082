from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.db import transaction
from django.db.models import Count, Q
from django.views import generic

from .forms import CoverForm
from .models import Author, Book, BookInstance, Genre


class IndexView(generic.TemplateView):
    template_name = "catalog/index.html"

    def get_context_data(self, **kwargs):
        copies = BookInstance.objects.aggregate(
            total=Count("pk"),
            available=Count("pk", filter=Q(status=BookInstance.Status.AVAILABLE)),
        )
        return super().get_context_data(
            counts=[
                ("Books", Book.objects.count()),
                ("Authors", Author.objects.count()),
                ("Copies", copies["total"]),
                ("Available now", copies["available"]),
            ],
            newest=Book.objects.select_related("author").order_by("-added", "-pk")[:6],
            genres=Genre.objects.annotate(size=Count("books")).filter(size__gt=0).order_by("name"),
            **kwargs,
        )


class BookListView(generic.ListView):
    paginate_by = 8

    def get_queryset(self):
        books = Book.objects.select_related("author")
        # A NUL can't be in a Postgres string, so nothing in the catalogue contains one.
        self.query = self.request.GET.get("q", "").replace("\0", "").strip()
        for word in self.query.split():
            books = books.filter(
                Q(title__icontains=word)
                | Q(author__first_name__icontains=word)
                | Q(author__last_name__icontains=word)
            )
        self.genre = self.request.GET.get("genre", "").replace("\0", "").strip()
        if self.genre:
            books = books.filter(genres__name__iexact=self.genre)
        return books

    def get_context_data(self, **kwargs):
        return super().get_context_data(query=self.query, genre=self.genre, **kwargs)


class BookDetailView(generic.DetailView):
    queryset = Book.objects.select_related("author", "language").prefetch_related(
        "genres", "copies"
    )


class AuthorListView(generic.ListView):
    paginate_by = 10
    queryset = Author.objects.annotate(size=Count("books")).order_by(*Author._meta.ordering)


class AuthorDetailView(generic.DetailView):
    queryset = Author.objects.prefetch_related("books__author")


class MyLoansView(LoginRequiredMixin, generic.ListView):
    template_name = "catalog/loans.html"
    paginate_by = 10
    extra_context = {"heading": "My books"}

    def get_queryset(self):
        return self.request.user.loans.select_related("book__author")


class AllLoansView(PermissionRequiredMixin, generic.ListView):
    permission_required = "catalog.view_all_loans"
    template_name = "catalog/loans.html"
    paginate_by = 10
    extra_context = {"heading": "All loans", "everyone": True}
    queryset = BookInstance.objects.filter(status=BookInstance.Status.ON_LOAN).select_related(
        "book__author", "borrower"
    )


class CoverView(PermissionRequiredMixin, generic.UpdateView):
    permission_required = "catalog.change_book"
    queryset = Book.objects.select_related("author")
    form_class = CoverForm
    template_name = "catalog/book_cover.html"

    def form_valid(self, form):
        before = form.initial["cover"].name
        response = super().form_valid(form)
        cover = self.object.cover
        if before and before != cover.name:
            transaction.on_commit(lambda: cover.storage.delete(before))
        messages.success(self.request, f"“{self.object}” has a new cover.")
        return response
